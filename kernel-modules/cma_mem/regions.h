/* SPDX-License-Identifier: GPL-2.0-only */
/* The regions of an open /dev/cma_mem. */
#ifndef _CMA_MEM_REGIONS_H
#define _CMA_MEM_REGIONS_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct dmabuf_account;
struct dmabuf_buffer;

/**
 * struct cmem_region - a piece of contiguous memory a file has allocated
 * @node:	in cmem_regions.by_offset
 * @id:		index in cmem_regions.by_id
 * @len:	bytes asked for
 * @start:	page offset at which the file shows it to mmap
 * @pages:	its length
 * @published:	the user knows of it
 * @buffer:	the memory, a reference
 */
struct cmem_region {
	struct rb_node node;
	u32 id;
	u32 len;
	unsigned long start;
	unsigned long pages;
	bool published;
	struct dmabuf_buffer *buffer;
};

/**
 * struct cmem_regions - all regions of a file, or a view of another file's
 * @ref:	held by the file and its views
 * @account:	of the file, as long as it is open
 * @lock:	protects @by_id, @next_id and @by_offset; mmap takes it, so that
 *		no user memory may be touched under it
 * @by_id:	every region, found by its id
 * @next_id:	ids are used again as late as possible
 * @by_offset:	every region, in the order of their offsets, without overlap
 * @owner:	whose regions this file shows instead of its own, of which it
 *		has none; a reference. NULL: its own. An owner is no view.
 * @views:	what has this as its @owner
 * @view:	in @owner's @views
 *
 * A view does not keep the regions: once the owner's file is closed it shows
 * none. @owner, @views and @view are protected by a lock all files share. It is
 * inside of @lock, and @owner begins to be set only under both.
 */
struct cmem_regions {
	struct kref ref;
	struct dmabuf_account *account;
	struct mutex lock;	/* by_id, next_id, by_offset */
	struct xarray by_id;
	u32 next_id;
	struct rb_root by_offset;
	struct cmem_regions *owner;
	struct list_head views;
	struct list_head view;
};

struct cmem_regions *cmem_regions_create(struct dmabuf_account *account);
void cmem_regions_close(struct cmem_regions *regions);
int cmem_regions_connect(struct cmem_regions *regions, struct cmem_regions *other);

bool cmem_regions_is_view(struct cmem_regions *regions);
int cmem_regions_add(struct cmem_regions *regions, struct cmem_region *region);
void cmem_regions_publish(struct cmem_regions *regions, struct cmem_region *region);
void cmem_regions_remove(struct cmem_regions *regions, struct cmem_region *region);
int cmem_regions_give_up(struct cmem_regions *regions, u32 id);

int cmem_regions_find_id(struct cmem_regions *regions, u32 id, struct cmem_region *found);
int cmem_regions_find_page(struct cmem_regions *regions, unsigned long page,
			   struct cmem_region *found);

#endif /* _CMA_MEM_REGIONS_H */
