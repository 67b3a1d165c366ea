// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of buffers: scattered pages, or one contiguous piece. It is
 * always zeroed here, whatever the kernel's init_on_alloc says, and never one
 * plain block, whose later pages nobody could take a reference on: a reference
 * on a page of a compound block (__GFP_COMP) is one on the block, and the
 * pages of a split one (split_page) have a reference each.
 */
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "core.h"

/* A mebibyte, 64 kilobytes, a page. */
const unsigned int dmabuf_orders[] = { 20 - PAGE_SHIFT, 16 - PAGE_SHIFT, 0 };
static_assert(PAGE_SHIFT <= 16);

/* A mebibyte between two looks at what else the machine is doing. */
#define BATCH_PAGES	(1UL << (20 - PAGE_SHIFT))

/* Room for pieces when the one in struct dmabuf_memory is not enough; it doubles from there. */
#define FIRST_PIECES	8

/* No splat in the log and no OOM kill: whoever asks is told -ENOMEM. */
#define GFP_PAGE	(GFP_HIGHUSER | __GFP_ZERO | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)
#define GFP_LARGE	((GFP_HIGHUSER | __GFP_ZERO | __GFP_NOWARN | __GFP_NORETRY | \
			  __GFP_COMP) & ~__GFP_RECLAIM)
#define GFP_KERNEL_MAYFAIL (GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)

/*
 * Where memory below 4 GiB is looked for first. In highmem, where there is
 * any: with all of lowmem in buffers the OOM killer comes, however much of the
 * rest is free.
 */
#ifdef CONFIG_ZONE_DMA32
#define GFP_ZONE_4G	__GFP_DMA32
#else
#define GFP_ZONE_4G	__GFP_HIGHMEM
#endif

/*
 * Taking the last free pages would bring the OOM killer down on somebody else:
 * a sixteenth of RAM is left to them.
 */
static bool leaves_enough(unsigned long wanted)
{
	return si_mem_available() >= (long)(wanted + totalram_pages() / 16);
}

/* What the kernel counts as available is not the CMA that is kept. */
static bool may_take(unsigned long wanted)
{
	unsigned long before = dmabuf_kept_returned();

	return leaves_enough(wanted) ||
	       (dmabuf_pools_give_way(DMABUF_KEPT_CMA, before) && leaves_enough(wanted));
}

static int may_go_on(void)
{
	cond_resched();
	return fatal_signal_pending(current) ? -EINTR : 0;
}

/*
 * What the memory cgroup of the caller is charged for. Where that is at its
 * limit an allocation that may fail does, and nobody is killed for it.
 */
static gfp_t account_for(const struct dmabuf_device *device)
{
	return device && device->mem_accounting ? __GFP_ACCOUNT : 0;
}

/*
 * Who else has a reference on it frees it. With one of those that goes away
 * meanwhile __free_pages() has freed a block twice, until Linux 6.3.
 */
static void free_block(struct page *page, unsigned int order)
{
	if (page_count(page) == 1)
		__free_pages(page, order);
	else
		put_page(page);
}

static void free_pages_of(unsigned long pfn, unsigned long pages, struct dmabuf_pool *pool)
{
	unsigned long end = pfn + pages;
	unsigned long freed = 0;
	unsigned int order;
	struct page *page;

	while (pfn < end) {
		page = pfn_to_page(pfn);
		order = compound_order(page);
		if (!dmabuf_pool_give(pool, page, order))
			free_block(page, order);
		pfn += 1UL << order;
		freed += 1UL << order;
		if (freed >= BATCH_PAGES) {
			cond_resched();
			freed = 0;
		}
	}
}

/*
 * Once a large order has failed it is not tried again for this buffer: @first
 * is the index of the order that went well last.
 */
static struct page *alloc_block(unsigned long wanted, struct dmabuf_pool *pool, gfp_t account,
				unsigned int *first)
{
	struct page *page;
	unsigned int i;

	for (i = *first; i < DMABUF_ORDERS; i++) {
		if (wanted >> dmabuf_orders[i] == 0)
			continue;
		page = dmabuf_pool_take(pool, i);
		if (!page)
			page = alloc_pages((dmabuf_orders[i] ? GFP_LARGE : GFP_PAGE) | account,
					   dmabuf_orders[i]);
		if (!page)
			continue;
		*first = i;
		return page;
	}

	return NULL;
}

/* Whether the array has to grow for one more: how large it is follows from @count. */
static bool pieces_are_full(const struct dmabuf_memory *memory)
{
	unsigned long count = memory->count;

	return count == 1 || (count >= FIRST_PIECES && is_power_of_2(count));
}

static void free_pieces(struct dmabuf_memory *memory)
{
	if (memory->pieces != &memory->first)
		kvfree(memory->pieces);
}

static int grow_pieces(struct dmabuf_memory *memory)
{
	unsigned long room = max(2 * memory->count, (unsigned long)FIRST_PIECES);
	struct dmabuf_piece *pieces;

	pieces = kvmalloc_array(room, sizeof(*pieces), GFP_KERNEL_MAYFAIL);
	if (!pieces)
		return -ENOMEM;
	memcpy(pieces, memory->pieces, memory->count * sizeof(*pieces));
	free_pieces(memory);
	memory->pieces = pieces;

	return 0;
}

static int add_piece(struct dmabuf_memory *memory, unsigned long pfn, unsigned long pages)
{
	struct dmabuf_piece *piece;

	if (memory->count) {
		piece = &memory->pieces[memory->count - 1];
		if (piece->pfn + piece->pages == pfn) {
			piece->pages += pages;
			memory->pages += pages;
			return 0;
		}
		if (pieces_are_full(memory) && grow_pieces(memory))
			return -ENOMEM;
	}
	piece = &memory->pieces[memory->count++];
	piece->pfn = pfn;
	piece->pages = pages;
	memory->pages += pages;

	return 0;
}

/* All there is, in one piece. */
static void set_piece(struct dmabuf_memory *memory, unsigned long pfn, unsigned long pages)
{
	memory->pieces = &memory->first;
	memory->first.pfn = pfn;
	memory->first.pages = pages;
	memory->count = 1;
	memory->pages = pages;
}

static int fill_with_pages(struct dmabuf_memory *memory, unsigned long pages, gfp_t account)
{
	unsigned int first = 0;
	unsigned int order;
	struct page *page;
	int ret;

	while (memory->pages < pages) {
		if (memory->pages % BATCH_PAGES == 0) {
			ret = may_go_on();
			if (ret)
				return ret;
			if (!may_take(pages - memory->pages))
				return -ENOMEM;
		}
		page = alloc_block(pages - memory->pages, memory->pool, account, &first);
		if (!page)
			return -ENOMEM;
		/* What was executed before is not taken for what is to be. */
		flush_dcache_page(page);
		order = compound_order(page);
		if (add_piece(memory, page_to_pfn(page), 1UL << order)) {
			__free_pages(page, order);
			return -ENOMEM;
		}
	}

	return 0;
}

/**
 * dmabuf_memory_alloc_scattered() - allocate pages from anywhere
 * @memory:	to be filled, zero before, and where it stays
 * @pages:	how many
 * @heap:	who hands them out; the pool of its device is asked before the page
 *		allocator, but for direct I/O
 *
 * Return: 0, -ENOMEM, or -EINTR after a fatal signal.
 */
int dmabuf_memory_alloc_scattered(struct dmabuf_memory *memory, unsigned long pages,
				  const struct dmabuf_heap *heap)
{
	int ret;

	memory->pieces = &memory->first;
	memory->pool = heap->direct_io ? NULL : heap->device->pool;
	ret = fill_with_pages(memory, pages, account_for(heap->device));
	if (ret)
		dmabuf_memory_free(memory);

	return ret;
}

static int zero_pages(unsigned long pfn, unsigned long pages)
{
	unsigned long i;
	int ret;

	for (i = 0; i < pages; i++) {
		dmabuf_zero_page(pfn + i);
		if (i % BATCH_PAGES == BATCH_PAGES - 1) {
			ret = may_go_on();
			if (ret)
				return ret;
		}
	}

	return 0;
}

/**
 * dmabuf_memory_zero() - zero contiguous memory that a buffer had
 * @memory:	the memory
 *
 * Return: 0, or -EINTR after a fatal signal.
 */
int dmabuf_memory_zero(const struct dmabuf_memory *memory)
{
	unsigned long pfn = memory->first.pfn;
	unsigned long i;
	int ret;

	ret = zero_pages(pfn, memory->pages);
	if (ret)
		return ret;
	/* What was executed before is not taken for what is to be. */
	for (i = 0; i < memory->pages; i++)
		flush_dcache_page(pfn_to_page(pfn + i));

	return 0;
}

/**
 * dmabuf_memory_move() - let another structure say where contiguous memory is
 * @to:		the other
 * @from:	what says it now, and must not be used any more
 */
void dmabuf_memory_move(struct dmabuf_memory *to, const struct dmabuf_memory *from)
{
	*to = *from;
	to->pieces = &to->first;
}

/* No kernel mapping: it could be uncached, and vmap makes the right one. */
#define DMA_ALLOC_ATTRS	DMA_ATTR_NO_KERNEL_MAPPING

static int fill_from_dma_api(struct dmabuf_memory *memory, unsigned long pages, unsigned long align)
{
	struct device *dev = dmabuf_dma_device();
	size_t size = pages << PAGE_SHIFT;
	struct sg_table table;
	unsigned long pfn;
	void *cookie;
	int ret;

	cookie = dma_alloc_attrs(dev, size, &memory->dma,
				 GFP_KERNEL | __GFP_NOWARN | __GFP_NORETRY, DMA_ALLOC_ATTRS);
	if (!cookie)
		return -ENOMEM;
	ret = dma_get_sgtable_attrs(dev, &table, cookie, memory->dma, size, DMA_ALLOC_ATTRS);
	if (ret)
		goto free;
	pfn = page_to_pfn(sg_page(table.sgl));
	sg_free_table(&table);

	/*
	 * Where CMA is full this is one block of the page allocator, whose
	 * second page has no reference of its own. CMA aligns to the size, up
	 * to its own limit.
	 */
	if (!page_count(pfn_to_page(pfn + 1)) || !IS_ALIGNED(pfn, align)) {
		ret = -ENOMEM;
		goto free;
	}
	ret = zero_pages(pfn, pages);
	if (ret)
		goto free;

	memory->cookie = cookie;
	set_piece(memory, pfn, pages);
	return 0;

free:
	dma_free_attrs(dev, size, cookie, memory->dma, DMA_ALLOC_ATTRS);
	return ret;
}

static bool below_4g(struct page *page, unsigned long pages)
{
	return PFN_PHYS(page_to_pfn(page) + pages) - 1 <= DMA_BIT_MASK(32);
}

static int fill_from_page_allocator(struct dmabuf_memory *memory, unsigned long pages,
				    unsigned long align, gfp_t account)
{
	gfp_t gfp = GFP_KERNEL_MAYFAIL | __GFP_ZERO | account;
	int order = get_order(pages << PAGE_SHIFT);
	int align_order = ilog2(align);
	struct page *page;

	/* What lies around it is given back, and is of little use to others. */
	if (align_order > max(order, get_order(SZ_1M)))
		return -ENOMEM;
	order = max(order, align_order);
	page = alloc_pages(gfp | GFP_ZONE_4G, order);
	if (page && !below_4g(page, pages)) {
		__free_pages(page, order);
		page = alloc_pages(gfp, order);
	}
	if (!page)
		return -ENOMEM;
	/* Without ZONE_DMA32 even lowmem may reach above 4 GiB. */
	if (!below_4g(page, pages)) {
		__free_pages(page, order);
		return -ENOMEM;
	}
	split_page(page, order);
	free_pages_of(page_to_pfn(page) + pages, (1UL << order) - pages, NULL);
	set_piece(memory, page_to_pfn(page), pages);

	return 0;
}

/*
 * A single page comes from the page allocator anyway, and without CMA everything
 * does.
 */
static bool may_be_cma(enum dmabuf_backing backing, unsigned long pages)
{
	return IS_ENABLED(CONFIG_DMA_CMA) && backing != DMABUF_PAGES && pages > 1;
}

/* What is kept of either goes back before it is said to be full. */
static int alloc_contiguous(struct dmabuf_memory *memory, unsigned long pages, unsigned long align,
			    enum dmabuf_backing backing, const struct dmabuf_device *device)
{
	unsigned long before = dmabuf_kept_returned();
	gfp_t account = account_for(device);
	int ret = -ENOMEM;

	if (!may_take(max(pages, align)))
		return -ENOMEM;
	if (may_be_cma(backing, pages)) {
		ret = fill_from_dma_api(memory, pages, align);
		if (ret == -ENOMEM && dmabuf_pools_give_way(DMABUF_KEPT_CMA, before))
			ret = fill_from_dma_api(memory, pages, align);
	}
	if (ret != -ENOMEM)
		return ret;
	ret = fill_from_page_allocator(memory, pages, align, account);
	if (ret == -ENOMEM && dmabuf_pools_give_way(DMABUF_KEPT_PAGES, before))
		ret = fill_from_page_allocator(memory, pages, align, account);

	return ret;
}

/**
 * dmabuf_memory_alloc_contiguous() - allocate one piece below 4 GiB
 * @memory:	to be filled, zero before, and where it stays
 * @pages:	how many
 * @align:	what the first of them is a multiple of, in pages, a power of two
 * @backing:	DMABUF_PAGES for nothing but the page allocator, or
 *		DMABUF_CONTIGUOUS for CMA before it
 * @device:	who hands it out, or NULL
 * @account:	of the file it is allocated through, or NULL: what is kept for
 *		it is taken first
 *
 * Return: 0, -ENOMEM, or -EINTR after a fatal signal.
 */
int dmabuf_memory_alloc_contiguous(struct dmabuf_memory *memory, unsigned long pages,
				   unsigned long align, enum dmabuf_backing backing,
				   const struct dmabuf_device *device,
				   const struct dmabuf_account *account)
{
	int ret;

	ret = dmabuf_kept_take(account, backing, pages, align, memory);
	if (ret != -ENOENT)
		return ret;

	return alloc_contiguous(memory, pages, align, backing, device);
}

/**
 * dmabuf_memory_alloc_carveout() - allocate one piece of a carveout
 * @memory:	to be filled, zero before, and where it stays
 * @pages:	how many
 * @align:	what the first of them is a multiple of, in pages, a power of two
 * @carveout:	where from
 *
 * Return: 0, -ENOMEM, or -EINTR after a fatal signal.
 */
int dmabuf_memory_alloc_carveout(struct dmabuf_memory *memory, unsigned long pages,
				 unsigned long align, struct dmabuf_carveout *carveout)
{
	unsigned long pfn;
	int ret;

	ret = dmabuf_carveout_alloc(carveout, pages, align, &pfn);
	if (ret)
		return ret;
	memory->carveout = carveout;
	set_piece(memory, pfn, pages);
	ret = dmabuf_memory_zero(memory);
	if (ret)
		dmabuf_memory_free(memory);

	return ret;
}

/*
 * How much of it is mapped at a time: larger pieces fail where bounce buffers
 * are small, and only a device that bounces has a limit.
 */
static size_t most_mapped(struct device *dev)
{
	return dma_max_mapping_size(dev) == SIZE_MAX ? BATCH_PAGES << PAGE_SHIFT : PAGE_SIZE;
}

/**
 * dmabuf_memory_sync() - have caches written back, by mapping piece after piece
 * @memory:	the memory
 * @offset:	the first byte
 * @len:	bytes, all in @memory
 * @direction:	DMA_TO_DEVICE: what the CPU wrote reaches memory.
 *		DMA_BIDIRECTIONAL: it is dropped from the cache, too, to the end
 *		of whole lines; what others write meanwhile would be lost.
 *
 * What is left in the cache of memory that will be mapped uncached would reach
 * it later, over what was written there. Cached memory needs it too, at the
 * latest when it is mapped for a device that writes (DMA_FROM_DEVICE): that may
 * throw the cache away, and what the memory held before it was zeroed would
 * show.
 *
 * Return: 0, -ENOMEM, or -EINTR after a fatal signal.
 */
int dmabuf_memory_sync(const struct dmabuf_memory *memory, size_t offset, size_t len,
		       enum dma_data_direction direction)
{
	const struct dmabuf_piece *piece = memory->pieces;
	unsigned long at = offset >> PAGE_SHIFT;
	struct device *dev = dmabuf_dma_device();
	size_t most = most_mapped(dev);
	size_t done = 0;
	dma_addr_t dma;
	size_t bytes;
	int ret;

	offset = offset_in_page(offset);
	while (len) {
		while (at >= piece->pages) {
			at -= piece->pages;
			piece++;
		}
		bytes = min(most, (size_t)(piece->pages - at) << PAGE_SHIFT);
		bytes = min(bytes - offset, len);
		dma = dma_map_page(dev, pfn_to_page(piece->pfn + at), offset, bytes, direction);
		if (dma_mapping_error(dev, dma))
			return -ENOMEM;
		dma_unmap_page(dev, dma, bytes, direction);
		at += (offset + bytes) >> PAGE_SHIFT;
		offset = 0;
		len -= bytes;
		done += bytes;
		if (done >= BATCH_PAGES << PAGE_SHIFT) {
			ret = may_go_on();
			if (ret)
				return ret;
			done = 0;
		}
	}

	return 0;
}

/**
 * dmabuf_memory_free() - give memory back
 * @memory:	what one of the functions above filled
 */
void dmabuf_memory_free(struct dmabuf_memory *memory)
{
	unsigned long i;

	if (memory->carveout)
		dmabuf_carveout_free(memory->carveout, memory->pieces[0].pfn, memory->pages);
	else if (memory->cookie)
		dma_free_attrs(dmabuf_dma_device(), memory->pages << PAGE_SHIFT,
			       memory->cookie, memory->dma, DMA_ALLOC_ATTRS);
	else
		for (i = 0; i < memory->count; i++)
			free_pages_of(memory->pieces[i].pfn, memory->pieces[i].pages,
				      memory->pool);
	free_pieces(memory);
}
