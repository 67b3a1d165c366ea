/* SPDX-License-Identifier: GPL-2.0-only */
/* The regions of an open /dev/cma_mem. */
#ifndef _CMA_MEM_REGIONS_H
#define _CMA_MEM_REGIONS_H

#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct dmabuf_buffer;

/**
 * struct cmem_region - a piece of contiguous memory a file has allocated
 * @node:	in cmem_regions.by_offset
 * @id:		index in cmem_regions.by_id
 * @start:	page offset at which the file shows it to mmap
 * @pages:	its length
 * @published:	the user knows of it
 * @buffer:	the memory, a reference
 */
struct cmem_region {
	struct rb_node node;
	u32 id;
	unsigned long start;
	unsigned long pages;
	bool published;
	struct dmabuf_buffer *buffer;
};

/**
 * struct cmem_regions - all regions of a file
 * @lock:	protects the rest; mmap takes it, so that no user memory may be
 *		touched under it
 * @by_id:	every region, found by its id
 * @next_id:	ids are used again as late as possible
 * @by_offset:	every region, in the order of their offsets, without overlap
 */
struct cmem_regions {
	struct mutex lock;	/* by_id, next_id, by_offset */
	struct xarray by_id;
	u32 next_id;
	struct rb_root by_offset;
};

void cmem_regions_init(struct cmem_regions *regions);
void cmem_regions_destroy(struct cmem_regions *regions);

int cmem_regions_add(struct cmem_regions *regions, struct cmem_region *region);
void cmem_regions_publish(struct cmem_regions *regions, struct cmem_region *region);
void cmem_regions_remove(struct cmem_regions *regions, struct cmem_region *region);

struct dmabuf_buffer *cmem_regions_find_id(struct cmem_regions *regions, u32 id);
struct dmabuf_buffer *cmem_regions_find_page(struct cmem_regions *regions, unsigned long page,
					     unsigned long *start);

#endif /* _CMA_MEM_REGIONS_H */
