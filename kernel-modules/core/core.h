/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of dmabuf_core share among themselves. */
#ifndef _CORE_H
#define _CORE_H

#include <linux/dma-mapping.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>

#include "dmabuf_core.h"

/**
 * struct dmabuf_piece - physically contiguous pages
 * @pfn:	the first one
 * @pages:	how many
 */
struct dmabuf_piece {
	unsigned long pfn;
	unsigned long pages;
};

/**
 * struct dmabuf_memory - the pages of a buffer; they never change
 * @pieces:	in the order of the buffer's offsets
 * @count:	number of @pieces
 * @pages:	pages in all
 * @cookie:	what dma_alloc_attrs() returned, NULL: from the page allocator
 * @dma:	address that belongs to @cookie
 */
struct dmabuf_memory {
	struct dmabuf_piece *pieces;
	unsigned long count;
	unsigned long pages;
	void *cookie;
	dma_addr_t dma;
};

/**
 * struct dmabuf_buffer - memory that any number of dma-bufs can show
 * @ref:	held by its maker, its user mappings and its dma-bufs
 * @device:	whose buffer it is
 * @memory:	its pages
 * @write_combined: mapped uncached everywhere; false: cached
 * @name:	that its dma-bufs start with, or NULL
 * @lock:	protects @attachments and what is in them, @vaddr, @vmap_count;
 *		taken inside of the reservation lock
 * @attachments: of all its dma-bufs
 * @vaddr:	its kernel mapping while @vmap_count is not 0
 * @vmap_count:	users of @vaddr
 */
struct dmabuf_buffer {
	struct kref ref;
	struct dmabuf_device *device;
	struct dmabuf_memory memory;
	bool write_combined;
	char *name;

	struct mutex lock;	/* attachments, vaddr, vmap_count */
	struct list_head attachments;
	void *vaddr;
	unsigned int vmap_count;
};

extern const struct dma_buf_ops dmabuf_ops;

struct device *dmabuf_dma_device(void);

int dmabuf_device_charge(struct dmabuf_device *device, u64 size);
void dmabuf_device_uncharge(struct dmabuf_device *device, u64 size);

int dmabuf_memory_alloc_scattered(struct dmabuf_memory *memory, unsigned long pages);
int dmabuf_memory_alloc_contiguous(struct dmabuf_memory *memory, unsigned long pages);
int dmabuf_memory_write_back(const struct dmabuf_memory *memory);
void dmabuf_memory_free(struct dmabuf_memory *memory);

#endif /* _CORE_H */
