// SPDX-License-Identifier: GPL-2.0-only
/*
 * Contiguous memory of freed buffers, kept for the next ones of the same open
 * file: they are often as large. It is of no use to other files, so that it goes
 * back when the file is closed, and before anybody hears that there is none.
 */
#include <linux/errno.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "compat.h"
#include "core.h"
#include "pool.h"

/**
 * struct dmabuf_kept - contiguous memory
 * @node:	in dmabuf_pool.kept
 * @account:	of the file it is kept for, a reference
 * @backing:	what was asked for when it was allocated
 * @dirty:	as its last buffer left it
 * @memory:	the memory
 */
struct dmabuf_kept {
	struct list_head node;
	struct dmabuf_account *account;
	enum dmabuf_backing backing;
	bool dirty;
	struct dmabuf_memory memory;
};

/* @sign: 1 for what is put into the pool, -1 for what is taken out of it. */
static void count_kept(struct dmabuf_pool *pool, const struct dmabuf_kept *kept, int sign)
{
	long pages = sign * (long)kept->memory.pages;

	if (kept->memory.cookie) {
		WRITE_ONCE(pool->pages, pool->pages + pages);
		pool->cma_pages += pages;
	} else {
		dmabuf_pool_count(pool, pfn_to_page(kept->memory.first.pfn), pages);
	}
	if (kept->dirty)
		dmabuf_pool_count_dirty(pool, pages);
}

static void take_off(struct dmabuf_pool *pool, struct dmabuf_kept *kept)
{
	lockdep_assert_held(&pool->lock);
	list_del(&kept->node);
	count_kept(pool, kept, -1);
}

static void free_kept(struct dmabuf_kept *kept)
{
	dmabuf_memory_free(&kept->memory);
	dmabuf_account_put(kept->account);
	kfree(kept);
}

/*
 * The oldest of an account, or of all; with @reclaim only what the kernel can
 * use for whatever it wants memory for.
 */
static struct dmabuf_kept *pop(struct dmabuf_pool *pool, const struct dmabuf_account *account,
			       bool reclaim)
{
	struct dmabuf_kept *kept;

	lockdep_assert_held(&pool->lock);
	list_for_each_entry(kept, &pool->kept, node) {
		if ((account && kept->account != account) || (reclaim && kept->memory.cookie))
			continue;
		take_off(pool, kept);
		return kept;
	}

	return NULL;
}

/* Whoever has a reference on a page of it could see what its next owner does. */
static bool is_ours_alone(const struct dmabuf_memory *memory)
{
	bool alone = true;
	unsigned long i;
	struct page *page;

	for (i = 0; i < memory->pages; i++) {
		page = pfn_to_page(memory->first.pfn + i);
		alone &= page_count(page) == 1 && !PageHWPoison(page);
	}

	return alone;
}

static bool has_room(const struct dmabuf_pool *pool, unsigned long pages)
{
	return pages <= pool->max_pages - pool->pages;
}

static bool put_in(struct dmabuf_pool *pool, struct dmabuf_kept *kept, struct list_head *older)
{
	unsigned long pages = kept->memory.pages;
	struct dmabuf_kept *old;
	bool wake;

	spin_lock(&pool->lock);
	/* A file that wants other sizes by now has no use for these. */
	while (!has_room(pool, pages)) {
		old = pop(pool, kept->account, false);
		if (!old)
			break;
		list_add(&old->node, older);
	}
	if (!has_room(pool, pages) || dmabuf_account_is_closed(kept->account)) {
		spin_unlock(&pool->lock);
		return false;
	}
	wake = !pool->dirty_pages;
	list_add_tail(&kept->node, &pool->kept);
	count_kept(pool, kept, 1);
	spin_unlock(&pool->lock);
	if (wake)
		dmabuf_pool_wake(pool);

	return true;
}

/**
 * dmabuf_kept_give() - keep the memory of a freed buffer
 * @pool:	the pool, or NULL
 * @account:	of the file the buffer was allocated through, or NULL
 * @backing:	of the buffer's heap
 * @memory:	the memory
 *
 * Return: false where it is still the caller's to free: it is not contiguous,
 * nobody will want it, there is too much, or somebody else has a reference on
 * it.
 */
bool dmabuf_kept_give(struct dmabuf_pool *pool, struct dmabuf_account *account,
		      enum dmabuf_backing backing, const struct dmabuf_memory *memory)
{
	struct dmabuf_kept *kept;
	struct dmabuf_kept *next;
	LIST_HEAD(older);
	bool given;

	if (!pool || !account || (backing != DMABUF_CONTIGUOUS && backing != DMABUF_PAGES) ||
	    memory->pages > pool->max_pages || !is_ours_alone(memory))
		return false;
	kept = kmalloc(sizeof(*kept), GFP_KERNEL | __GFP_NOWARN);
	if (!kept)
		return false;
	kept->account = account;
	kept->backing = backing;
	kept->dirty = true;
	dmabuf_memory_move(&kept->memory, memory);
	dmabuf_account_get(account);
	given = put_in(pool, kept, &older);
	if (!given) {
		dmabuf_account_put(account);
		kfree(kept);
	}
	list_for_each_entry_safe(kept, next, &older, node)
		free_kept(kept);

	return given;
}

/* The newest that is zeroed, or else the newest. */
static struct dmabuf_kept *find(struct dmabuf_pool *pool, const struct dmabuf_account *account,
				enum dmabuf_backing backing, unsigned long pages,
				unsigned long align)
{
	struct dmabuf_kept *found = NULL;
	struct dmabuf_kept *kept;

	lockdep_assert_held(&pool->lock);
	list_for_each_entry(kept, &pool->kept, node)
		if (kept->account == account && kept->backing == backing &&
		    kept->memory.pages == pages && IS_ALIGNED(kept->memory.first.pfn, align) &&
		    (!found || found->dirty || !kept->dirty))
			found = kept;

	return found;
}

/**
 * dmabuf_kept_take() - get memory for a new buffer
 * @pool:	the pool, or NULL
 * @account:	of the file it is allocated through, or NULL
 * @backing:	of its heap
 * @pages:	how many
 * @align:	what the first of them is a multiple of, in pages
 * @memory:	to be filled
 *
 * Return: 0, and it is zeroed; -ENOENT where there is none, or -EINTR after a
 * fatal signal.
 */
int dmabuf_kept_take(struct dmabuf_pool *pool, const struct dmabuf_account *account,
		     enum dmabuf_backing backing, unsigned long pages, unsigned long align,
		     struct dmabuf_memory *memory)
{
	struct dmabuf_kept *kept;
	int ret = 0;

	if (!pool || !account)
		return -ENOENT;
	spin_lock(&pool->lock);
	kept = find(pool, account, backing, pages, align);
	if (kept) {
		take_off(pool, kept);
		pool->reused += pages;
	}
	spin_unlock(&pool->lock);
	if (!kept)
		return -ENOENT;

	if (kept->dirty)
		ret = dmabuf_memory_zero(&kept->memory);
	if (ret) {
		free_kept(kept);
		return ret;
	}
	dmabuf_memory_move(memory, &kept->memory);
	dmabuf_account_put(kept->account);
	kfree(kept);

	return 0;
}

static struct dmabuf_kept *first_dirty(struct dmabuf_pool *pool)
{
	struct dmabuf_kept *kept;

	lockdep_assert_held(&pool->lock);
	list_for_each_entry(kept, &pool->kept, node) {
		if (!kept->dirty)
			continue;
		/* It still counts. */
		list_del(&kept->node);
		return kept;
	}

	return NULL;
}

/**
 * dmabuf_kept_clean() - zero one of them
 * @pool:	the pool, whose cleaner this is
 *
 * Return: false where there is nothing to do.
 */
bool dmabuf_kept_clean(struct dmabuf_pool *pool)
{
	struct dmabuf_kept *kept;
	bool closed;

	lockdep_assert_held(&pool->cleaning);
	spin_lock(&pool->lock);
	kept = first_dirty(pool);
	spin_unlock(&pool->lock);
	if (!kept)
		return false;

	dmabuf_memory_zero(&kept->memory);
	spin_lock(&pool->lock);
	list_add_tail(&kept->node, &pool->kept);
	kept->dirty = false;
	dmabuf_pool_count_dirty(pool, -(long)kept->memory.pages);
	/* Meanwhile: nobody found it then. */
	closed = dmabuf_account_is_closed(kept->account);
	if (closed)
		take_off(pool, kept);
	spin_unlock(&pool->lock);
	if (closed)
		free_kept(kept);

	return true;
}

/**
 * dmabuf_kept_release() - give memory back to the kernel
 * @pool:	the pool
 * @wanted:	pages, or more than that
 * @reclaim:	only what the page allocator gave: whoever reclaims memory must
 *		not wait for CMA
 *
 * Return: pages that were given back.
 */
unsigned long dmabuf_kept_release(struct dmabuf_pool *pool, unsigned long wanted, bool reclaim)
{
	unsigned long freed = 0;
	struct dmabuf_kept *kept;

	while (freed < wanted) {
		spin_lock(&pool->lock);
		kept = pop(pool, NULL, reclaim);
		spin_unlock(&pool->lock);
		if (!kept)
			break;
		freed += kept->memory.pages;
		free_kept(kept);
	}

	return freed;
}

/**
 * dmabuf_kept_forget() - give back what is kept for an open file
 * @pool:	the pool, or NULL
 * @account:	of the file, closed: no more is kept for it
 */
void dmabuf_kept_forget(struct dmabuf_pool *pool, const struct dmabuf_account *account)
{
	struct dmabuf_kept *kept;

	if (!pool)
		return;
	for (;;) {
		spin_lock(&pool->lock);
		kept = pop(pool, account, false);
		spin_unlock(&pool->lock);
		if (!kept)
			break;
		free_kept(kept);
	}
}
