// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions of an open file: found by id, and by the offset mmap is given. And
 * files that show those of another one.
 */
#include <linux/err.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "dmabuf_core.h"
#include "regions.h"

/*
 * The interface has 32 bits for an offset in bytes, and mmap of a 32-bit kernel
 * wants the end of what is mapped to fit in as well.
 */
#define END_PAGE	((unsigned long)(SZ_4G >> PAGE_SHIFT) - 1)

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

/* Who shows whose regions, of all files; inside of the lock of regions. */
static DEFINE_MUTEX(views_lock);

/**
 * cmem_regions_create() - start with no region
 * @account:	of the file, whose reference is the regions' where this returns
 *		some
 *
 * Return: the regions of a new file, or an ERR_PTR.
 */
struct cmem_regions *cmem_regions_create(struct dmabuf_account *account)
{
	struct cmem_regions *regions;

	regions = kzalloc(sizeof(*regions), GFP_KERNEL_ACCOUNT);
	if (!regions)
		return ERR_PTR(-ENOMEM);
	kref_init(&regions->ref);
	regions->account = account;
	mutex_init(&regions->lock);
	xa_init_flags(&regions->by_id, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	regions->by_offset = RB_ROOT;
	INIT_LIST_HEAD(&regions->views);

	return regions;
}

static void free_regions(struct kref *ref)
{
	struct cmem_regions *regions = container_of(ref, struct cmem_regions, ref);

	mutex_destroy(&regions->lock);
	kfree(regions);
}

static void put_regions(struct cmem_regions *regions)
{
	kref_put(&regions->ref, free_regions);
}

/* What a file shows, with a reference. */
static struct cmem_regions *shown_by(struct cmem_regions *regions)
{
	struct cmem_regions *shown;

	mutex_lock(&views_lock);
	shown = regions->owner ?: regions;
	kref_get(&shown->ref);
	mutex_unlock(&views_lock);

	return shown;
}

/**
 * cmem_regions_is_view() - whether a file shows the regions of another one
 * @regions:	of the file
 *
 * Return: true if it does, for good.
 */
bool cmem_regions_is_view(struct cmem_regions *regions)
{
	bool is_view;

	mutex_lock(&views_lock);
	is_view = regions->owner;
	mutex_unlock(&views_lock);

	return is_view;
}

/* Has @regions show what @owner has, and all that show those of @regions. */
static void become_view(struct cmem_regions *regions, struct cmem_regions *owner)
{
	struct cmem_regions *view;

	lockdep_assert_held(&views_lock);
	list_add(&regions->view, &owner->views);
	kref_get(&owner->ref);
	regions->owner = owner;
	list_for_each_entry(view, &regions->views, view) {
		kref_get(&owner->ref);
		view->owner = owner;
		/* Not the last one, which the caller's file has. */
		put_regions(regions);
	}
	list_splice_init(&regions->views, &owner->views);
}

/**
 * cmem_regions_connect() - let a file show the regions of another one
 * @regions:	of the file
 * @other:	of the other one, or what it shows
 *
 * Return: 0, -EINVAL where that is what the file shows itself, -EBUSY where it
 * has regions or shows another's already.
 */
int cmem_regions_connect(struct cmem_regions *regions, struct cmem_regions *other)
{
	struct cmem_regions *owner;
	int ret = 0;

	mutex_lock(&regions->lock);
	mutex_lock(&views_lock);
	owner = other->owner ?: other;
	if (other == regions || owner == regions)
		ret = -EINVAL;
	else if (regions->owner || !xa_empty(&regions->by_id))
		ret = -EBUSY;
	else
		become_view(regions, owner);
	mutex_unlock(&views_lock);
	mutex_unlock(&regions->lock);

	return ret;
}

/**
 * cmem_regions_close() - give up all regions of a file that is closed
 * @regions:	of the file; views may still look for regions in it
 */
void cmem_regions_close(struct cmem_regions *regions)
{
	struct cmem_region *region;
	struct cmem_region *next;
	struct rb_root closed;

	mutex_lock(&regions->lock);
	closed = regions->by_offset;
	regions->by_offset = RB_ROOT;
	xa_destroy(&regions->by_id);
	mutex_unlock(&regions->lock);
	rbtree_postorder_for_each_entry_safe(region, next, &closed, node) {
		free_region(region);
		cond_resched();
	}

	mutex_lock(&views_lock);
	if (regions->owner) {
		list_del(&regions->view);
		put_regions(regions->owner);
	}
	mutex_unlock(&views_lock);
	dmabuf_account_close(regions->account);
	put_regions(regions);
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
 * @region:	with its buffer and length set; nobody finds it yet
 *
 * Return: 0 or a negative errno: -EPERM where the file shows another's regions.
 */
int cmem_regions_add(struct cmem_regions *regions, struct cmem_region *region)
{
	int ret;

	region->pages = dmabuf_buffer_size(region->buffer) >> PAGE_SHIFT;
	region->published = false;

	mutex_lock(&regions->lock);
	ret = -EPERM;
	if (cmem_regions_is_view(regions))
		goto unlock;
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

static void take_out(struct cmem_regions *regions, struct cmem_region *region)
{
	lockdep_assert_held(&regions->lock);
	xa_erase(&regions->by_id, region->id);
	rb_erase(&region->node, &regions->by_offset);
}

/**
 * cmem_regions_remove() - give up a region nobody knows of
 * @regions:	of the file
 * @region:	in @regions, not published, freed here
 */
void cmem_regions_remove(struct cmem_regions *regions, struct cmem_region *region)
{
	mutex_lock(&regions->lock);
	take_out(regions, region);
	mutex_unlock(&regions->lock);

	free_region(region);
}

/**
 * cmem_regions_give_up() - give up a region
 * @regions:	of the file
 * @id:		given by the user
 *
 * Its memory lives as long as a mapping or a dma-buf of it.
 *
 * Return: 0, -EPERM where the file shows another's regions, -EINVAL where it has
 * no such region.
 */
int cmem_regions_give_up(struct cmem_regions *regions, u32 id)
{
	struct cmem_region *region;
	int ret = 0;

	if (cmem_regions_is_view(regions))
		return -EPERM;

	mutex_lock(&regions->lock);
	region = xa_load(&regions->by_id, id);
	if (region && region->published)
		take_out(regions, region);
	else
		ret = -EINVAL;
	mutex_unlock(&regions->lock);
	if (!ret)
		free_region(region);

	return ret;
}

static int copy_found(struct cmem_region *found, const struct cmem_region *region)
{
	if (!region || !region->published)
		return -EINVAL;
	dmabuf_buffer_get(region->buffer);
	*found = *region;

	return 0;
}

/**
 * cmem_regions_find_id() - find a region by its id
 * @regions:	of the file
 * @id:		given by the user
 * @found:	a copy of what is true of it now (out), with a reference on its
 *		buffer
 *
 * Return: 0, or -EINVAL where there is none.
 */
int cmem_regions_find_id(struct cmem_regions *regions, u32 id, struct cmem_region *found)
{
	struct cmem_regions *shown = shown_by(regions);
	int ret;

	mutex_lock(&shown->lock);
	ret = copy_found(found, xa_load(&shown->by_id, id));
	mutex_unlock(&shown->lock);
	put_regions(shown);

	return ret;
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
 * cmem_regions_find_page() - find a region by an offset for mmap
 * @regions:	of the file
 * @page:	the offset in pages
 * @found:	as cmem_regions_find_id()
 *
 * Return: 0, or -EINVAL where there is none.
 */
int cmem_regions_find_page(struct cmem_regions *regions, unsigned long page,
			   struct cmem_region *found)
{
	struct cmem_regions *shown = shown_by(regions);
	int ret;

	mutex_lock(&shown->lock);
	ret = copy_found(found, region_at(shown, page));
	mutex_unlock(&shown->lock);
	put_regions(shown);

	return ret;
}
