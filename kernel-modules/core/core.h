/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of dmabuf_core share among themselves. */
#ifndef _CORE_H
#define _CORE_H

#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/scatterlist.h>

#include "compat.h"
#include "dmabuf_core.h"

struct seq_file;

/* Of the blocks that scattered pages come in, the largest first. */
#define DMABUF_ORDERS	3
extern const unsigned int dmabuf_orders[DMABUF_ORDERS];

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
 * @first:	where @pieces are, as long as there is one only
 * @count:	number of @pieces
 * @pages:	pages in all
 * @carveout:	that they are a part of, or NULL
 * @cookie:	what dma_alloc_attrs() returned; without it and @carveout they
 *		are from the page allocator
 * @dma:	address that belongs to @cookie
 * @pool:	that scattered pages are given to, or NULL
 */
struct dmabuf_memory {
	struct dmabuf_piece *pieces;
	struct dmabuf_piece first;
	unsigned long count;
	unsigned long pages;
	struct dmabuf_carveout *carveout;
	void *cookie;
	dma_addr_t dma;
	struct dmabuf_pool *pool;
};

/*
 * The contiguous memory a pool keeps: of the page allocator, of use to whoever
 * wants memory, and of CMA, where most of the kernel's own cannot lie.
 */
enum dmabuf_kept_kind {
	DMABUF_KEPT_PAGES,
	DMABUF_KEPT_CMA,
	DMABUF_KEPT_KINDS,
};

/**
 * struct dmabuf_account - what an open file has allocated
 * @ref:	held by the file, by the buffers, and by what is kept for others: a
 *		buffer that outlives the file still has to be uncharged
 * @limit:	bytes at most
 * @bytes:	of buffers that are there
 * @pool:	of the device, or NULL: what keeps memory for the file; its lock
 *		protects all below
 * @closed:	whether the file is; nothing is kept any more
 * @kept:	pieces of memory, what came last at the end
 * @kept_pieces: how many, with one that is being zeroed and not in @kept
 */
struct dmabuf_account {
	struct kref ref;
	u64 limit;
	atomic64_t bytes;
	struct dmabuf_pool *pool;
	bool closed;
	struct list_head kept;
	unsigned int kept_pieces;
};

/**
 * struct dmabuf_share - a dma-buf over a buffer, the dma-buf's priv
 * @node:	in dmabuf_buffer.shares
 * @buffer:	the buffer, a reference
 * @dmabuf:	the dma-buf
 */
struct dmabuf_share {
	struct list_head node;
	struct dmabuf_buffer *buffer;
	struct dma_buf *dmabuf;
};

/**
 * struct dmabuf_buffer - memory that any number of dma-bufs can show
 * @ref:	held by its maker, its user mappings, its dma-bufs and handles
 * @heap:	where it comes from
 * @account:	of the file it was allocated through, a reference, or NULL
 * @charge:	bytes it counts for the limits of the device and of that file
 * @node:	in dmabuf_device.buffers
 * @id:		number it has in debugfs and in traces
 * @pid:	the process that made it
 * @memory:	its pages
 * @cached:	whether it was allocated as cached
 * @write_combined: mapped uncached everywhere; false: cached
 * @name:	that its dma-bufs start with, or NULL
 * @write_back_lock: held while its pages are mapped to be written back: mapped
 *		twice, by two who do that at the same time, DMA_API_DEBUG takes
 *		one for the other
 * @lock:	protects @shares, @attachments and what is in them, @vaddr,
 *		@vmap_count; taken inside of the reservation lock
 * @shares:	all its dma-bufs
 * @attachments: of all its dma-bufs
 * @vaddr:	its kernel mapping while @vmap_count is not 0
 * @vmap_count:	users of @vaddr
 * @zeroes_in_cache: whether what the memory held before it was zeroed may
 *		still be there, below the cache; protected by @write_back_lock
 */
struct dmabuf_buffer {
	struct kref ref;
	struct dmabuf_heap *heap;
	struct dmabuf_account *account;
	u64 charge;
	struct list_head node;
	u64 id;
	pid_t pid;
	struct dmabuf_memory memory;
	bool cached;
	bool write_combined;
	char *name;

	struct mutex write_back_lock;	/* pages being written back, zeroes_in_cache */
	struct mutex lock;	/* shares, attachments, vaddr, vmap_count */
	struct list_head shares;
	struct list_head attachments;
	void *vaddr;
	unsigned int vmap_count;
	bool zeroes_in_cache;
};

/**
 * struct dmabuf_attachment - a device that may map a buffer
 * @node:	in dmabuf_buffer.attachments
 * @dev:	the device
 * @table:	its own view of the pages
 * @direction:	what it was mapped for
 * @mapped:	whether it is mapped; protected, as is @direction and the
 *		mapping in @table, by dmabuf_buffer.lock
 */
struct dmabuf_attachment {
	struct list_head node;
	struct device *dev;
	struct sg_table table;
	enum dma_data_direction direction;
	bool mapped;
};

extern const struct dma_buf_ops dmabuf_ops;

struct device *dmabuf_dma_device(void);

int dmabuf_device_charge(struct dmabuf_device *device, u64 size);
void dmabuf_device_uncharge(struct dmabuf_device *device, u64 size);
int dmabuf_charge(atomic64_t *bytes, u64 size, u64 limit);
void dmabuf_account_get(struct dmabuf_account *account);
void dmabuf_account_put(struct dmabuf_account *account);
int dmabuf_account_charge(struct dmabuf_account *account, u64 size);
void dmabuf_account_uncharge(struct dmabuf_account *account, u64 size);
void dmabuf_heap_count(struct dmabuf_buffer *buffer);
void dmabuf_heap_uncount(struct dmabuf_buffer *buffer);

void dmabuf_debugfs_add(struct dmabuf_device *device);
void dmabuf_debugfs_remove(struct dmabuf_device *device);

int dmabuf_memory_alloc_scattered(struct dmabuf_memory *memory, unsigned long pages,
				  const struct dmabuf_heap *heap);
int dmabuf_memory_alloc_contiguous(struct dmabuf_memory *memory, unsigned long pages,
				   unsigned long align, enum dmabuf_backing backing,
				   const struct dmabuf_device *device,
				   const struct dmabuf_account *account);
int dmabuf_memory_alloc_carveout(struct dmabuf_memory *memory, unsigned long pages,
				 unsigned long align, struct dmabuf_carveout *carveout);
int dmabuf_memory_sync(const struct dmabuf_memory *memory, size_t offset, size_t len,
		       enum dma_data_direction direction);
int dmabuf_memory_zero(const struct dmabuf_memory *memory);
void dmabuf_memory_move(struct dmabuf_memory *to, const struct dmabuf_memory *from);
void dmabuf_memory_free(struct dmabuf_memory *memory);

struct dmabuf_pool *dmabuf_pool_create(const char *name, u64 max_bytes);
void dmabuf_pool_destroy(struct dmabuf_pool *pool);
struct page *dmabuf_pool_take(struct dmabuf_pool *pool, unsigned int i);
bool dmabuf_pool_give(struct dmabuf_pool *pool, struct page *page, unsigned int order);
void dmabuf_pool_drain(struct dmabuf_pool *pool);
bool dmabuf_pools_give_way(enum dmabuf_kept_kind kind, unsigned long before);
u64 dmabuf_pool_bytes(const struct dmabuf_pool *pool);
void dmabuf_pool_show(struct dmabuf_pool *pool, struct seq_file *seq);

/*
 * Zeroes a page that is nobody's. clear_highpage() would look for a mapping of
 * it (kmap()) first, which takes as long as the half of zeroing it.
 */
static inline void dmabuf_zero_page(unsigned long pfn)
{
	struct page *page = pfn_to_page(pfn);

	if (PageHighMem(page))
		compat_zero_highmem(pfn);
	else
		clear_page(page_address(page));
}

bool dmabuf_kept_give(struct dmabuf_account *account, enum dmabuf_backing backing,
		      const struct dmabuf_memory *memory);
int dmabuf_kept_take(const struct dmabuf_account *account, enum dmabuf_backing backing,
		     unsigned long pages, unsigned long align, struct dmabuf_memory *memory);
unsigned long dmabuf_kept_returned(void);
void dmabuf_kept_close(struct dmabuf_account *account);

int dmabuf_carveout_alloc(struct dmabuf_carveout *carveout, unsigned long pages,
			  unsigned long align, unsigned long *pfn);
void dmabuf_carveout_free(struct dmabuf_carveout *carveout, unsigned long pfn,
			  unsigned long pages);
phys_addr_t dmabuf_carveout_base(const struct dmabuf_carveout *carveout);
u64 dmabuf_carveout_size(const struct dmabuf_carveout *carveout);
u64 dmabuf_carveout_largest_free(struct dmabuf_carveout *carveout);

#endif /* _CORE_H */
