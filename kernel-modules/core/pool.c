// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of freed buffers, kept for new ones and zeroed meanwhile by a thread of
 * its own: the blocks of scattered pages here, contiguous memory in kept.c. The
 * kernel takes it back when memory runs short.
 */
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "compat.h"
#include "core.h"
#include "pool.h"

/*
 * Until freed blocks are zeroed: whoever frees and allocates on and on wakes
 * nobody for each of them, and gets them back while they are in the cache.
 */
#define DELAY_MS	20

/* All pools, and no one of them goes meanwhile; outside of their locks. */
static LIST_HEAD(pools);
static DEFINE_MUTEX(pools_lock);

/* Zeroed between two looks at who else wants the processor. */
#define RESCHED_PAGES	(SZ_64K >> PAGE_SHIFT)

/* May sleep: a mebibyte is long for whoever waits for the processor. */
static void zero_block(struct page *block, unsigned int order)
{
	unsigned long i;

	for (i = 0; i < 1UL << order; i++) {
		dmabuf_zero_page(page_to_pfn(block) + i);
		if (i % RESCHED_PAGES == RESCHED_PAGES - 1)
			cond_resched();
	}
}

static bool is_poisoned(struct page *block, unsigned int order)
{
	return dmabuf_pool_is_poisoned(page_to_pfn(block), 1UL << order);
}

/* Where there is none of that order: DMABUF_ORDERS. */
static unsigned int index_of(unsigned int order)
{
	unsigned int i;

	for (i = 0; i < DMABUF_ORDERS; i++)
		if (dmabuf_orders[i] == order)
			break;

	return i;
}

static struct page *first_of(struct list_head *blocks)
{
	struct page *page = list_first_entry_or_null(blocks, struct page, lru);

	if (page)
		list_del(&page->lru);

	return page;
}

static struct page *first_dirty(struct dmabuf_pool *pool, unsigned int i)
{
	struct page *page = first_of(&pool->dirty[i]);

	if (page)
		dmabuf_pool_count_dirty(pool, -(1L << dmabuf_orders[i]));

	return page;
}

/**
 * dmabuf_pool_take() - get a block for a new buffer
 * @pool:	the pool, or NULL
 * @i:		index of its order
 *
 * Return: a zeroed block, or NULL where there is none of that order.
 */
struct page *dmabuf_pool_take(struct dmabuf_pool *pool, unsigned int i)
{
	unsigned long pages = 1UL << dmabuf_orders[i];
	bool poisoned = false;
	bool dirty = false;
	struct page *page;

	if (!pool)
		return NULL;
	spin_lock(&pool->lock);
	page = first_of(&pool->clean[i]);
	if (!page) {
		page = first_dirty(pool, i);
		dirty = true;
	}
	if (page) {
		dmabuf_pool_count(pool, page, -(long)pages);
		poisoned = is_poisoned(page, dmabuf_orders[i]);
		if (!poisoned)
			pool->reused += pages;
	}
	spin_unlock(&pool->lock);
	if (poisoned) {
		__free_pages(page, dmabuf_orders[i]);
		return NULL;
	}
	/* Still cheaper than one of the page allocator, which has to be zeroed, too. */
	if (page && dirty)
		zero_block(page, dmabuf_orders[i]);

	return page;
}

/**
 * dmabuf_pool_give() - keep a block of a freed buffer
 * @pool:	the pool, or NULL
 * @page:	the block's first page
 * @order:	its order
 *
 * Return: false where it is still the caller's to free: there are enough, its
 * memory has failed, or somebody else has a reference on it, who could see what
 * its next owner does.
 */
bool dmabuf_pool_give(struct dmabuf_pool *pool, struct page *page, unsigned int order)
{
	unsigned long pages = 1UL << order;
	bool wake = false;
	unsigned int i = index_of(order);
	bool kept = false;

	if (!pool || i == DMABUF_ORDERS || page_count(page) != 1 || is_poisoned(page, order))
		return false;
	spin_lock(&pool->lock);
	if (pages <= pool->max_pages - pool->pages) {
		list_add(&page->lru, &pool->dirty[i]);
		dmabuf_pool_count(pool, page, pages);
		wake = !pool->dirty_pages;
		dmabuf_pool_count_dirty(pool, pages);
		kept = true;
	}
	spin_unlock(&pool->lock);
	if (wake)
		dmabuf_pool_wake(pool);

	return kept;
}

/* Large blocks first: they are worth the most. They still count as dirty. */
static struct page *next_to_clean(struct dmabuf_pool *pool, unsigned int *i)
{
	struct page *page;

	for (*i = 0; *i < DMABUF_ORDERS; ++*i) {
		page = first_of(&pool->dirty[*i]);
		if (page)
			return page;
	}

	return NULL;
}

static bool clean_block(struct dmabuf_pool *pool)
{
	struct page *page;
	bool poisoned;
	unsigned int i;

	spin_lock(&pool->lock);
	page = next_to_clean(pool, &i);
	spin_unlock(&pool->lock);
	if (page) {
		poisoned = is_poisoned(page, dmabuf_orders[i]);
		if (!poisoned)
			zero_block(page, dmabuf_orders[i]);
		spin_lock(&pool->lock);
		dmabuf_pool_count_dirty(pool, -(1L << dmabuf_orders[i]));
		if (poisoned)
			dmabuf_pool_count(pool, page, -(1L << dmabuf_orders[i]));
		else
			list_add(&page->lru, &pool->clean[i]);
		spin_unlock(&pool->lock);
		if (poisoned)
			__free_pages(page, dmabuf_orders[i]);
	}

	return page;
}

/* False where nothing is left to do before @expires, which is when something goes back. */
static bool clean_one(struct dmabuf_pool *pool, long *expires)
{
	bool done;

	mutex_lock(&pool->cleaning);
	done = clean_block(pool) || dmabuf_kept_clean(pool);
	*expires = dmabuf_kept_expire(pool);
	mutex_unlock(&pool->cleaning);

	return done;
}

static int clean(void *data)
{
	struct dmabuf_pool *pool = data;
	long expires = MAX_SCHEDULE_TIMEOUT;

	while (!kthread_should_stop()) {
		if (wait_event_idle_timeout(pool->dirtied,
					    READ_ONCE(pool->dirty_pages) || kthread_should_stop(),
					    expires))
			schedule_timeout_idle(msecs_to_jiffies(DELAY_MS));
		while (!kthread_should_stop() && clean_one(pool, &expires))
			cond_resched();
	}

	return 0;
}

/* Small blocks first, and those that are not zeroed: they are worth the least. */
static struct page *least_wanted(struct dmabuf_pool *pool, unsigned int *order)
{
	struct page *page = NULL;
	unsigned int i = DMABUF_ORDERS;

	spin_lock(&pool->lock);
	while (i-- && !page) {
		*order = dmabuf_orders[i];
		page = first_dirty(pool, i) ?: first_of(&pool->clean[i]);
	}
	if (page)
		dmabuf_pool_count(pool, page, -(1L << *order));
	spin_unlock(&pool->lock);

	return page;
}

static unsigned long release(struct dmabuf_pool *pool, unsigned long wanted)
{
	unsigned long freed = 0;
	unsigned int order;
	struct page *page;

	while (freed < wanted) {
		page = least_wanted(pool, &order);
		if (!page)
			break;
		__free_pages(page, order);
		freed += 1UL << order;
		cond_resched();
	}

	return freed;
}

static unsigned long count_objects(struct shrinker *shrinker, struct shrink_control *control)
{
	struct dmabuf_pool *pool = compat_shrinker_private(shrinker);
	unsigned long pages;

	spin_lock(&pool->lock);
	pages = pool->pages - pool->kept_pages[DMABUF_KEPT_CMA];
	spin_unlock(&pool->lock);

	return pages;
}

static unsigned long scan_objects(struct shrinker *shrinker, struct shrink_control *control)
{
	struct dmabuf_pool *pool = compat_shrinker_private(shrinker);
	unsigned long wanted = control->nr_to_scan;
	unsigned long freed = release(pool, wanted);

	if (freed < wanted)
		freed += dmabuf_kept_release(pool, wanted - freed, DMABUF_KEPT_PAGES);
	/* A block may be more than was asked for. */
	control->nr_scanned = freed;
	spin_lock(&pool->lock);
	pool->reclaimed += freed;
	spin_unlock(&pool->lock);

	return freed ?: SHRINK_STOP;
}

/**
 * dmabuf_pool_drain() - give everything back to the kernel
 * @pool:	the pool
 *
 * What comes meanwhile may stay, so that this ends whoever goes on freeing.
 */
void dmabuf_pool_drain(struct dmabuf_pool *pool)
{
	enum dmabuf_kept_kind kind;

	mutex_lock(&pool->cleaning);
	release(pool, READ_ONCE(pool->pages));
	for (kind = 0; kind < DMABUF_KEPT_KINDS; kind++)
		dmabuf_kept_release(pool, READ_ONCE(pool->kept_pages[kind]), kind);
	mutex_unlock(&pool->cleaning);
}

/**
 * dmabuf_pools_give_way() - give back the contiguous memory that all pools keep
 * @kind:	of it
 * @before:	what dmabuf_kept_returned() said before the caller found none
 *
 * What is being zeroed is waited for: it may be a closed file's.
 *
 * Return: whether any has gone back since then, whoever gave it; false after a
 * fatal signal, too.
 */
bool dmabuf_pools_give_way(enum dmabuf_kept_kind kind, unsigned long before)
{
	struct dmabuf_pool *pool;
	unsigned long wanted;

	if (mutex_lock_killable(&pools_lock))
		return false;
	list_for_each_entry(pool, &pools, node) {
		wanted = READ_ONCE(pool->kept_pages[kind]);
		if (!wanted)
			continue;
		if (mutex_lock_killable(&pool->cleaning))
			break;
		dmabuf_kept_release(pool, wanted, kind);
		mutex_unlock(&pool->cleaning);
	}
	mutex_unlock(&pools_lock);

	return !fatal_signal_pending(current) && dmabuf_kept_returned() != before;
}

/**
 * dmabuf_pool_bytes() - how much a pool keeps
 * @pool:	the pool
 *
 * Return: bytes.
 */
u64 dmabuf_pool_bytes(const struct dmabuf_pool *pool)
{
	return (u64)READ_ONCE(pool->pages) << PAGE_SHIFT;
}

static void show_line(struct seq_file *seq, const char *name, u64 pages)
{
	seq_printf(seq, "%-16s %12llu\n", name, pages << PAGE_SHIFT);
}

/**
 * dmabuf_pool_show() - show the figures of a pool, a line each, in bytes
 * @pool:	the pool
 * @seq:	where
 */
void dmabuf_pool_show(struct dmabuf_pool *pool, struct seq_file *seq)
{
	spin_lock(&pool->lock);
	show_line(seq, "max_bytes", pool->max_pages);
	show_line(seq, "bytes", pool->pages);
	show_line(seq, "zeroed_bytes", pool->pages - pool->dirty_pages);
	show_line(seq, "cma_bytes", pool->kept_pages[DMABUF_KEPT_CMA]);
	show_line(seq, "reused_bytes", pool->reused);
	show_line(seq, "expired_bytes", pool->expired);
	show_line(seq, "reclaimed_bytes", pool->reclaimed);
	spin_unlock(&pool->lock);
}

/**
 * dmabuf_pool_create() - start with no block
 * @name:	of the device it is for
 * @max_bytes:	most bytes it keeps
 *
 * Return: the pool, or an ERR_PTR.
 */
struct dmabuf_pool *dmabuf_pool_create(const char *name, u64 max_bytes)
{
	struct dmabuf_pool *pool;
	unsigned int i;
	int ret;

	pool = kzalloc(sizeof(*pool), GFP_KERNEL);
	if (!pool)
		return ERR_PTR(-ENOMEM);
	pool->max_pages = min_t(u64, max_bytes >> PAGE_SHIFT, totalram_pages());
	init_waitqueue_head(&pool->dirtied);
	mutex_init(&pool->cleaning);
	spin_lock_init(&pool->lock);
	for (i = 0; i < DMABUF_ORDERS; i++) {
		INIT_LIST_HEAD(&pool->dirty[i]);
		INIT_LIST_HEAD(&pool->clean[i]);
	}
	for (i = 0; i < DMABUF_KEPT_KINDS; i++) {
		INIT_LIST_HEAD(&pool->kept_dirty[i]);
		INIT_LIST_HEAD(&pool->kept_clean[i]);
	}
	pool->cleaner = kthread_run(clean, pool, "dmabuf-%s", name);
	if (IS_ERR(pool->cleaner)) {
		ret = PTR_ERR(pool->cleaner);
		goto free;
	}
	/* In nobody's way. */
	set_user_nice(pool->cleaner, MAX_NICE);
	pool->shrinker = compat_shrinker_create("dmabuf", count_objects, scan_objects, pool);
	if (IS_ERR(pool->shrinker)) {
		ret = PTR_ERR(pool->shrinker);
		goto stop;
	}
	mutex_lock(&pools_lock);
	list_add(&pool->node, &pools);
	mutex_unlock(&pools_lock);

	return pool;

stop:
	kthread_stop(pool->cleaner);
free:
	mutex_destroy(&pool->cleaning);
	kfree(pool);
	return ERR_PTR(ret);
}

/**
 * dmabuf_pool_destroy() - undo dmabuf_pool_create()
 * @pool:	the pool, which nobody gives a block any more, or NULL
 */
void dmabuf_pool_destroy(struct dmabuf_pool *pool)
{
	if (!pool)
		return;
	mutex_lock(&pools_lock);
	list_del(&pool->node);
	mutex_unlock(&pools_lock);
	kthread_stop(pool->cleaner);
	compat_shrinker_destroy(pool->shrinker);
	dmabuf_pool_drain(pool);
	mutex_destroy(&pool->cleaning);
	kfree(pool);
}
