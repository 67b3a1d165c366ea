/* SPDX-License-Identifier: GPL-2.0-only */
/* What the two kinds of memory that a pool keeps have in common. */
#ifndef _POOL_H
#define _POOL_H

#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/vmstat.h>
#include <linux/wait.h>

#include "core.h"

/**
 * struct dmabuf_pool - memory that no buffer has
 * @node:	in the list of all pools
 * @max_pages:	most pages it keeps
 * @shrinker:	gives them back when memory runs short
 * @cleaner:	zeroes them, and gives back contiguous memory that nobody wants
 * @dirtied:	what @cleaner waits for
 * @cleaning:	held by @cleaner while it has something that is on no list. Not
 *		by the shrinker, which must wait for nobody.
 * @lock:	protects all below; inside of @cleaning, nothing is allocated
 *		under it
 * @dirty:	blocks by order, as their last buffer left them
 * @clean:	blocks by order, zeroed
 * @kept_dirty:	contiguous memory by kind, each piece for the buffers of one
 *		open file, as its last one left it, the oldest first
 * @kept_clean:	the same, zeroed; all of it is older than @kept_dirty
 * @pages:	of all of them, and of what is being zeroed
 * @dirty_pages: of those that are not zeroed yet, these among them
 * @kept_pages:	of those that are contiguous memory, by kind
 * @reused:	pages that new buffers got of it
 * @expired:	pages of contiguous memory that nobody wanted in time
 * @reclaimed:	pages the kernel took back
 */
struct dmabuf_pool {
	struct list_head node;
	unsigned long max_pages;
	struct shrinker *shrinker;
	struct task_struct *cleaner;
	wait_queue_head_t dirtied;
	struct mutex cleaning;	/* something on no list */
	spinlock_t lock;	/* all below */
	struct list_head dirty[DMABUF_ORDERS];
	struct list_head clean[DMABUF_ORDERS];
	struct list_head kept_dirty[DMABUF_KEPT_KINDS];
	struct list_head kept_clean[DMABUF_KEPT_KINDS];
	unsigned long pages;
	unsigned long dirty_pages;
	unsigned long kept_pages[DMABUF_KEPT_KINDS];
	u64 reused;
	u64 expired;
	u64 reclaimed;
};

/* Of the page allocator: as much as of other caches is free for whoever asks what is available. */
static inline void dmabuf_pool_count(struct dmabuf_pool *pool, struct page *page, long pages)
{
	lockdep_assert_held(&pool->lock);
	WRITE_ONCE(pool->pages, pool->pages + pages);
	mod_node_page_state(page_pgdat(page), NR_KERNEL_MISC_RECLAIMABLE, pages);
}

static inline void dmabuf_pool_count_dirty(struct dmabuf_pool *pool, long pages)
{
	lockdep_assert_held(&pool->lock);
	WRITE_ONCE(pool->dirty_pages, pool->dirty_pages + pages);
}

/* After more has been counted as dirty, where nothing was. */
static inline void dmabuf_pool_wake(struct dmabuf_pool *pool)
{
	if (wq_has_sleeper(&pool->dirtied))
		wake_up(&pool->dirtied);
}

/* Whether memory of it has failed, which nobody may touch any more. */
static inline bool dmabuf_pool_is_poisoned(unsigned long pfn, unsigned long pages)
{
	bool poisoned = false;
	unsigned long i;

	for (i = 0; i < pages; i++)
		poisoned |= PageHWPoison(pfn_to_page(pfn + i));

	return poisoned;
}

bool dmabuf_kept_clean(struct dmabuf_pool *pool);
long dmabuf_kept_expire(struct dmabuf_pool *pool);
unsigned long dmabuf_kept_release(struct dmabuf_pool *pool, unsigned long wanted,
				  enum dmabuf_kept_kind kind);

#endif /* _POOL_H */
