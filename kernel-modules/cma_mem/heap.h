/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory of /dev/cma_mem. */
#ifndef _CMA_MEM_HEAP_H
#define _CMA_MEM_HEAP_H

#include "dmabuf_core.h"

int cmem_heap_init(struct dmabuf_device *device);
void cmem_heap_exit(void);
struct dmabuf_buffer *cmem_heap_alloc(struct dmabuf_account *account, u64 len, bool cached);
u64 cmem_heap_total(const struct dmabuf_device *device);

#endif /* _CMA_MEM_HEAP_H */
