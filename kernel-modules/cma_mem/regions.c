// SPDX-License-Identifier: GPL-2.0-only
/* Regions of an open file: found by id, and by the offset mmap is given. */
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "dmabuf_core.h"
#include "regions.h"

/* The interface has 32 bits for an offset in bytes. */
#define END_PAGE	((unsigned long)(SZ_4G >> PAGE_SHIFT))

static struct cmem_region *to_region(struct rb_node *node)
{
	return rb_entry(node, struct cmem_region, node);
}

static unsigned long end_of(const struct cmem_region *region)
{
	return region->start + region->pages;
}

static void free_region(struct cmem_region *region)
{
	dmabuf_buffer_put(region->buffer);
	kfree(region);
}

/**
 * cmem_regions_init() - start with no region
 * @regions:	to be filled
 */
void cmem_regions_init(struct cmem_regions *regions)
{
	mutex_init(&regions->lock);
	xa_init_flags(&regions->by_id, XA_FLAGS_ALLOC1);
	regions->next_id = 0;
	regions->by_offset = RB_ROOT;
}

/**
 * cmem_regions_destroy() - give up all regions
 * @regions:	used by nobody any more
 */
void cmem_regions_destroy(struct cmem_regions *regions)
{
	struct cmem_region *region;
	unsigned long id;

	xa_for_each(&regions->by_id, id, region)
		free_region(region);
	xa_destroy(&regions->by_id);
	mutex_destroy(&regions->lock);
}

/*
 * After the last region, which is quick, as long as there are offsets left
 * there; then in the first gap.
 */
static int find_gap(const struct cmem_regions *regions, unsigned long pages, unsigned long *start)
{
	struct rb_node *node = rb_last(&regions->by_offset);
	unsigned long free = node ? end_of(to_region(node)) : 0;

	if (pages <= END_PAGE - free) {
		*start = free;
		return 0;
	}
	free = 0;
	for (node = rb_first(&regions->by_offset); node; node = rb_next(node)) {
		if (to_region(node)->start - free >= pages) {
			*start = free;
			return 0;
		}
		free = end_of(to_region(node));
	}

	return -ENOMEM;
}

static void insert_by_offset(struct cmem_regions *regions, struct cmem_region *region)
{
	struct rb_node **link = &regions->by_offset.rb_node;
	struct rb_node *parent = NULL;

	while (*link) {
		parent = *link;
		if (region->start < to_region(parent)->start)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&region->node, parent, link);
	rb_insert_color(&region->node, &regions->by_offset);
}

/**
 * cmem_regions_add() - give a region its id and offset
 * @regions:	of the file
 * @region:	with @region->buffer set; nobody finds it yet
 *
 * Return: 0 or a negative errno.
 */
int cmem_regions_add(struct cmem_regions *regions, struct cmem_region *region)
{
	int ret;

	region->pages = dmabuf_buffer_size(region->buffer) >> PAGE_SHIFT;
	region->published = false;

	mutex_lock(&regions->lock);
	ret = find_gap(regions, region->pages, &region->start);
	if (ret)
		goto unlock;
	ret = xa_alloc_cyclic(&regions->by_id, &region->id, region, xa_limit_31b,
			      &regions->next_id, GFP_KERNEL);
	if (ret < 0)
		goto unlock;
	ret = 0;
	insert_by_offset(regions, region);
unlock:
	mutex_unlock(&regions->lock);

	return ret;
}

/**
 * cmem_regions_publish() - let a region be found
 * @regions:	of the file
 * @region:	in @regions
 */
void cmem_regions_publish(struct cmem_regions *regions, struct cmem_region *region)
{
	mutex_lock(&regions->lock);
	region->published = true;
	mutex_unlock(&regions->lock);
}

/**
 * cmem_regions_remove() - give up a region
 * @regions:	of the file
 * @region:	in @regions, freed here
 */
void cmem_regions_remove(struct cmem_regions *regions, struct cmem_region *region)
{
	mutex_lock(&regions->lock);
	xa_erase(&regions->by_id, region->id);
	rb_erase(&region->node, &regions->by_offset);
	mutex_unlock(&regions->lock);

	free_region(region);
}

/**
 * cmem_regions_find_id() - find memory by its id
 * @regions:	of the file
 * @id:		given by the user
 *
 * Return: the memory with a reference, or NULL.
 */
struct dmabuf_buffer *cmem_regions_find_id(struct cmem_regions *regions, u32 id)
{
	struct dmabuf_buffer *buffer = NULL;
	struct cmem_region *region;

	mutex_lock(&regions->lock);
	region = xa_load(&regions->by_id, id);
	if (region && region->published) {
		buffer = region->buffer;
		dmabuf_buffer_get(buffer);
	}
	mutex_unlock(&regions->lock);

	return buffer;
}

static struct cmem_region *region_at(const struct cmem_regions *regions, unsigned long page)
{
	struct rb_node *node = regions->by_offset.rb_node;
	struct cmem_region *region;

	while (node) {
		region = to_region(node);
		if (page < region->start)
			node = node->rb_left;
		else if (page >= end_of(region))
			node = node->rb_right;
		else
			return region;
	}

	return NULL;
}

/**
 * cmem_regions_find_page() - find memory by an offset for mmap
 * @regions:	of the file
 * @page:	the offset in pages
 * @start:	the page at which the region begins
 *
 * Return: the memory with a reference, or NULL.
 */
struct dmabuf_buffer *cmem_regions_find_page(struct cmem_regions *regions, unsigned long page,
					     unsigned long *start)
{
	struct dmabuf_buffer *buffer = NULL;
	struct cmem_region *region;

	mutex_lock(&regions->lock);
	region = region_at(regions, page);
	if (region && region->published) {
		buffer = region->buffer;
		dmabuf_buffer_get(buffer);
		*start = region->start;
	}
	mutex_unlock(&regions->lock);

	return buffer;
}
