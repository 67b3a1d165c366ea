/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of ion_lite share among themselves. */
#ifndef _ION_LITE_H
#define _ION_LITE_H

#include <linux/types.h>

#include <uapi/dmabuf/ion.h>

struct dmabuf_buffer;
struct dmabuf_device;

unsigned int ion_heap_count(void);
void ion_heap_describe(unsigned int index, struct ion_heap_data *data);
struct dmabuf_buffer *ion_heaps_alloc(struct dmabuf_device *device, u64 len, u32 mask, u32 flags);

#endif /* _ION_LITE_H */
