// SPDX-License-Identifier: GPL-2.0-only
/*
 * Contiguous memory of freed buffers, kept for the next ones of the same open
 * file: they are often as large. It is of no use to other files, and CMA is
 * there for other drivers, too, so that it goes back where nobody asks for it
 * soon, when the file is closed, and before anybody hears that there is none.
 */
#include <linux/atomic.h>
#include <linux/errno.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "compat.h"
#include "core.h"
#include "pool.h"

/* How long it is kept. */
#define KEPT_MS		1000

/* Pieces kept for a file at most: an allocation looks at all of them, under a lock. */
#define KEPT_PIECES	64

/**
 * struct dmabuf_kept - contiguous memory
 * @node:	in dmabuf_pool.kept_dirty or dmabuf_pool.kept_clean
 * @of_file:	in dmabuf_account.kept
 * @account:	of the file it is kept for, a reference
 * @backing:	what was asked for when it was allocated
 * @dirty:	as its last buffer left it
 * @since:	when it was given up, in jiffies
 * @memory:	the memory
 */
struct dmabuf_kept {
	struct list_head node;
	struct list_head of_file;
	struct dmabuf_account *account;
	enum dmabuf_backing backing;
	bool dirty;
	unsigned long since;
	struct dmabuf_memory memory;
};

/* Pieces that have gone back, of all pools. */
static atomic_long_t returned;

static enum dmabuf_kept_kind kind_of(const struct dmabuf_kept *kept)
{
	return kept->memory.cookie ? DMABUF_KEPT_CMA : DMABUF_KEPT_PAGES;
}

static void put_on_lists(struct dmabuf_pool *pool, struct dmabuf_kept *kept)
{
	struct list_head *lists = kept->dirty ? pool->kept_dirty : pool->kept_clean;

	lockdep_assert_held(&pool->lock);
	list_add_tail(&kept->node, &lists[kind_of(kept)]);
	list_add_tail(&kept->of_file, &kept->account->kept);
}

static void take_off_lists(struct dmabuf_pool *pool, struct dmabuf_kept *kept)
{
	lockdep_assert_held(&pool->lock);
	list_del(&kept->node);
	list_del(&kept->of_file);
}

/* @sign: 1 for what is put into the pool, -1 for what is taken out of it. */
static void count_kept(struct dmabuf_pool *pool, const struct dmabuf_kept *kept, int sign)
{
	enum dmabuf_kept_kind kind = kind_of(kept);
	long pages = sign * (long)kept->memory.pages;

	lockdep_assert_held(&pool->lock);
	kept->account->kept_pieces += sign;
	WRITE_ONCE(pool->kept_pages[kind], pool->kept_pages[kind] + pages);
	if (kind == DMABUF_KEPT_CMA)
		WRITE_ONCE(pool->pages, pool->pages + pages);
	else
		dmabuf_pool_count(pool, pfn_to_page(kept->memory.first.pfn), pages);
	if (kept->dirty)
		dmabuf_pool_count_dirty(pool, pages);
}

static void take_out(struct dmabuf_pool *pool, struct dmabuf_kept *kept)
{
	take_off_lists(pool, kept);
	count_kept(pool, kept, -1);
}

static void free_kept(struct dmabuf_kept *kept)
{
	dmabuf_memory_free(&kept->memory);
	dmabuf_account_put(kept->account);
	kfree(kept);
	atomic_long_inc(&returned);
}

static void free_all(struct list_head *list)
{
	struct dmabuf_kept *kept;
	struct dmabuf_kept *next;

	list_for_each_entry_safe(kept, next, list, node) {
		free_kept(kept);
		cond_resched();
	}
}

static struct dmabuf_kept *first_of(struct list_head *list)
{
	return list_first_entry_or_null(list, struct dmabuf_kept, node);
}

/* They are zeroed in the order in which they came. */
static struct dmabuf_kept *oldest(struct dmabuf_pool *pool, enum dmabuf_kept_kind kind)
{
	lockdep_assert_held(&pool->lock);
	return first_of(&pool->kept_clean[kind]) ?: first_of(&pool->kept_dirty[kind]);
}

static bool is_poisoned(const struct dmabuf_memory *memory)
{
	return dmabuf_pool_is_poisoned(memory->first.pfn, memory->pages);
}

/* Whoever has a reference on a page of it could see what its next owner does. */
static bool is_ours_alone(const struct dmabuf_memory *memory)
{
	unsigned long i;

	for (i = 0; i < memory->pages; i++)
		if (page_count(pfn_to_page(memory->first.pfn + i)) != 1)
			return false;

	return true;
}

static bool has_room(const struct dmabuf_pool *pool, unsigned long pages)
{
	return pages <= pool->max_pages - pool->pages;
}

/* @older: of the same file, makes room for it, and is the caller's to free. */
static bool put_in(struct dmabuf_pool *pool, struct dmabuf_kept *kept, struct list_head *older)
{
	struct dmabuf_account *account = kept->account;
	unsigned long pages = kept->memory.pages;
	bool wake = false;
	bool given = false;
	struct dmabuf_kept *old;

	spin_lock(&pool->lock);
	if (account->closed)
		goto unlock;
	/* A file that wants other sizes by now has no use for these. */
	while (!has_room(pool, pages) || account->kept_pieces >= KEPT_PIECES) {
		old = list_first_entry_or_null(&account->kept, struct dmabuf_kept, of_file);
		if (!old)
			goto unlock;
		take_out(pool, old);
		list_add(&old->node, older);
	}
	wake = !pool->dirty_pages;
	put_on_lists(pool, kept);
	count_kept(pool, kept, 1);
	given = true;
unlock:
	spin_unlock(&pool->lock);
	if (wake)
		dmabuf_pool_wake(pool);

	return given;
}

/**
 * dmabuf_kept_give() - keep the memory of a freed buffer
 * @account:	of the file the buffer was allocated through, or NULL
 * @backing:	of the buffer's heap
 * @memory:	the memory
 *
 * Return: false where it is still the caller's to free: it is not contiguous or
 * of a carveout, nobody will want it, there is too much, it has failed, or
 * somebody else has a reference on it.
 */
bool dmabuf_kept_give(struct dmabuf_account *account, enum dmabuf_backing backing,
		      const struct dmabuf_memory *memory)
{
	struct dmabuf_pool *pool = account ? account->pool : NULL;
	struct dmabuf_kept *kept;
	LIST_HEAD(older);
	bool given;

	if (!pool || (backing != DMABUF_CONTIGUOUS && backing != DMABUF_PAGES) ||
	    memory->pages > pool->max_pages || !is_ours_alone(memory) || is_poisoned(memory))
		return false;
	/* Nobody waits for memory to give some back. */
	kept = kmalloc(sizeof(*kept), GFP_NOWAIT | __GFP_NOWARN);
	if (!kept)
		return false;
	kept->account = account;
	kept->backing = backing;
	kept->dirty = true;
	kept->since = jiffies;
	dmabuf_memory_move(&kept->memory, memory);
	dmabuf_account_get(account);
	given = put_in(pool, kept, &older);
	if (!given) {
		dmabuf_account_put(account);
		kfree(kept);
	}
	free_all(&older);

	return given;
}

/* The last one that is zeroed, or else the last one, of which most is in the cache. */
static struct dmabuf_kept *find(struct dmabuf_pool *pool, const struct dmabuf_account *account,
				enum dmabuf_backing backing, unsigned long pages,
				unsigned long align)
{
	struct dmabuf_kept *found = NULL;
	struct dmabuf_kept *kept;

	lockdep_assert_held(&pool->lock);
	list_for_each_entry(kept, &account->kept, of_file)
		if (kept->backing == backing && kept->memory.pages == pages &&
		    IS_ALIGNED(kept->memory.first.pfn, align) &&
		    (!found || found->dirty || !kept->dirty))
			found = kept;

	return found;
}

/**
 * dmabuf_kept_take() - get memory for a new buffer
 * @account:	of the file it is allocated through, or NULL
 * @backing:	of its heap
 * @pages:	how many
 * @align:	what the first of them is a multiple of, in pages
 * @memory:	to be filled
 *
 * Return: 0, and it is zeroed; -ENOENT where there is none, or -EINTR after a
 * fatal signal.
 */
int dmabuf_kept_take(const struct dmabuf_account *account, enum dmabuf_backing backing,
		     unsigned long pages, unsigned long align, struct dmabuf_memory *memory)
{
	struct dmabuf_pool *pool = account ? account->pool : NULL;
	struct dmabuf_kept *kept;
	int ret = 0;

	/* More than its size aligns it to would be a matter of luck. */
	if (!pool || align > roundup_pow_of_two(pages))
		return -ENOENT;
	spin_lock(&pool->lock);
	kept = find(pool, account, backing, pages, align);
	if (kept)
		take_out(pool, kept);
	spin_unlock(&pool->lock);
	if (!kept)
		return -ENOENT;

	if (is_poisoned(&kept->memory))
		ret = -ENOENT;
	else if (kept->dirty)
		ret = dmabuf_memory_zero(&kept->memory);
	if (ret) {
		free_kept(kept);
		return ret;
	}
	spin_lock(&pool->lock);
	pool->reused += pages;
	spin_unlock(&pool->lock);
	dmabuf_memory_move(memory, &kept->memory);
	dmabuf_account_put(kept->account);
	kfree(kept);

	return 0;
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
	bool wanted;

	lockdep_assert_held(&pool->cleaning);
	spin_lock(&pool->lock);
	kept = first_of(&pool->kept_dirty[DMABUF_KEPT_CMA]) ?:
	       first_of(&pool->kept_dirty[DMABUF_KEPT_PAGES]);
	/* It still counts. */
	if (kept)
		take_off_lists(pool, kept);
	spin_unlock(&pool->lock);
	if (!kept)
		return false;

	wanted = !is_poisoned(&kept->memory);
	if (wanted)
		dmabuf_memory_zero(&kept->memory);
	spin_lock(&pool->lock);
	/* Whoever closed the file meanwhile has not found it. */
	wanted = wanted && !kept->account->closed;
	if (!wanted)
		count_kept(pool, kept, -1);
	else
		dmabuf_pool_count_dirty(pool, -(long)kept->memory.pages);
	kept->dirty = false;
	if (wanted)
		put_on_lists(pool, kept);
	spin_unlock(&pool->lock);
	if (!wanted)
		free_kept(kept);

	return true;
}

/* The oldest one, where it is old enough; else it says when that will be. */
static struct dmabuf_kept *take_expired(struct dmabuf_pool *pool, enum dmabuf_kept_kind kind,
					long *left)
{
	struct dmabuf_kept *kept;
	long now_left;

	spin_lock(&pool->lock);
	kept = oldest(pool, kind);
	if (kept) {
		now_left = kept->since + msecs_to_jiffies(KEPT_MS) - jiffies;
		if (now_left > 0) {
			*left = min(*left, now_left);
			kept = NULL;
		} else {
			take_out(pool, kept);
			pool->expired += kept->memory.pages;
		}
	}
	spin_unlock(&pool->lock);

	return kept;
}

/**
 * dmabuf_kept_expire() - give back what nobody has asked for again
 * @pool:	the pool, whose cleaner this is
 *
 * Return: jiffies until there will be some more, or MAX_SCHEDULE_TIMEOUT where
 * nothing is kept.
 */
long dmabuf_kept_expire(struct dmabuf_pool *pool)
{
	long left = MAX_SCHEDULE_TIMEOUT;
	enum dmabuf_kept_kind kind;
	struct dmabuf_kept *kept;

	lockdep_assert_held(&pool->cleaning);
	for (kind = 0; kind < DMABUF_KEPT_KINDS; kind++) {
		while ((kept = take_expired(pool, kind, &left))) {
			free_kept(kept);
			cond_resched();
		}
	}

	return left;
}

/**
 * dmabuf_kept_release() - give memory back to the kernel
 * @pool:	the pool
 * @wanted:	pages, or more than that
 * @kind:	of it
 *
 * Return: pages that were given back.
 */
unsigned long dmabuf_kept_release(struct dmabuf_pool *pool, unsigned long wanted,
				  enum dmabuf_kept_kind kind)
{
	unsigned long freed = 0;
	struct dmabuf_kept *kept;

	while (freed < wanted) {
		spin_lock(&pool->lock);
		kept = oldest(pool, kind);
		if (kept)
			take_out(pool, kept);
		spin_unlock(&pool->lock);
		if (!kept)
			break;
		freed += kept->memory.pages;
		free_kept(kept);
		cond_resched();
	}

	return freed;
}

/**
 * dmabuf_kept_returned() - a number that grows with whatever has gone back
 *
 * Return: pieces of all pools.
 */
unsigned long dmabuf_kept_returned(void)
{
	return atomic_long_read(&returned);
}

/**
 * dmabuf_kept_close() - give back what is kept for an open file
 * @account:	of the file: no more is kept for it
 *
 * What is being zeroed goes back when it is.
 */
void dmabuf_kept_close(struct dmabuf_account *account)
{
	struct dmabuf_pool *pool = account->pool;
	struct dmabuf_kept *kept;
	struct dmabuf_kept *next;
	LIST_HEAD(closed);

	if (!pool)
		return;
	spin_lock(&pool->lock);
	account->closed = true;
	list_for_each_entry_safe(kept, next, &account->kept, of_file) {
		take_out(pool, kept);
		list_add(&kept->node, &closed);
	}
	spin_unlock(&pool->lock);
	free_all(&closed);
}
