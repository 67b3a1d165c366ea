// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of buffers: scattered pages, or one contiguous piece. It is
 * always zeroed here, whatever the kernel's init_on_alloc says, and always
 * made of pages that have a reference each (split_page), so that each can be
 * referenced alone.
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
static const unsigned int orders[] = { 20 - PAGE_SHIFT, 16 - PAGE_SHIFT, 0 };
static_assert(PAGE_SHIFT <= 16);

/* A mebibyte between two looks at what else the machine is doing. */
#define BATCH_PAGES	(1UL << (20 - PAGE_SHIFT))

/* No splat in the log and no OOM kill: whoever asks is told -ENOMEM. */
#define GFP_PAGE	(GFP_HIGHUSER | __GFP_ZERO | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)
#define GFP_LARGE	((GFP_HIGHUSER | __GFP_ZERO | __GFP_NOWARN | __GFP_NORETRY) & \
			 ~__GFP_RECLAIM)
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

static int may_go_on(void)
{
	cond_resched();
	return fatal_signal_pending(current) ? -EINTR : 0;
}

static void free_split_pages(unsigned long pfn, unsigned long pages)
{
	unsigned long i;

	for (i = 0; i < pages; i++) {
		__free_page(pfn_to_page(pfn + i));
		if (i % BATCH_PAGES == BATCH_PAGES - 1)
			cond_resched();
	}
}

/*
 * Once a large order has failed it is not tried again for this buffer: @first
 * is the index of the order that went well last.
 */
static struct page *alloc_split_pages(unsigned long wanted, unsigned int *first,
				      unsigned long *got)
{
	struct page *page;
	unsigned int i;

	for (i = *first; i < ARRAY_SIZE(orders); i++) {
		if (wanted >> orders[i] == 0)
			continue;
		page = alloc_pages(orders[i] ? GFP_LARGE : GFP_PAGE, orders[i]);
		if (!page)
			continue;
		split_page(page, orders[i]);
		*first = i;
		*got = 1UL << orders[i];
		return page;
	}

	return NULL;
}

static void add_piece(struct dmabuf_memory *memory, unsigned long pfn, unsigned long pages)
{
	struct dmabuf_piece *piece;

	memory->pages += pages;
	if (memory->count) {
		piece = &memory->pieces[memory->count - 1];
		if (piece->pfn + piece->pages == pfn) {
			piece->pages += pages;
			return;
		}
	}
	piece = &memory->pieces[memory->count++];
	piece->pfn = pfn;
	piece->pages = pages;
}

static int fill_with_pages(struct dmabuf_memory *memory, unsigned long pages)
{
	unsigned int first = 0;
	unsigned long got;
	struct page *page;
	int ret;

	while (memory->pages < pages) {
		if (memory->pages % BATCH_PAGES == 0) {
			ret = may_go_on();
			if (ret)
				return ret;
			if (!leaves_enough(pages - memory->pages))
				return -ENOMEM;
		}
		page = alloc_split_pages(pages - memory->pages, &first, &got);
		if (!page)
			return -ENOMEM;
		add_piece(memory, page_to_pfn(page), got);
	}

	return 0;
}

/* The array was made for a piece a page; mostly there are far fewer. */
static void trim_pieces(struct dmabuf_memory *memory)
{
	struct dmabuf_piece *pieces;

	pieces = kvmalloc_array(memory->count, sizeof(*pieces), GFP_KERNEL_MAYFAIL);
	if (!pieces)
		return;
	memcpy(pieces, memory->pieces, memory->count * sizeof(*pieces));
	kvfree(memory->pieces);
	memory->pieces = pieces;
}

/**
 * dmabuf_memory_alloc_scattered() - allocate pages from anywhere
 * @memory:	to be filled, zero before
 * @pages:	how many
 *
 * Return: 0, -ENOMEM, or -EINTR after a fatal signal.
 */
int dmabuf_memory_alloc_scattered(struct dmabuf_memory *memory, unsigned long pages)
{
	int ret;

	memory->pieces = kvmalloc_array(pages, sizeof(*memory->pieces), GFP_KERNEL_MAYFAIL);
	if (!memory->pieces)
		return -ENOMEM;
	ret = fill_with_pages(memory, pages);
	if (ret) {
		dmabuf_memory_free(memory);
		return ret;
	}
	trim_pieces(memory);

	return 0;
}

static int zero_pages(unsigned long pfn, unsigned long pages)
{
	unsigned long i;
	int ret;

	for (i = 0; i < pages; i++) {
		clear_highpage(pfn_to_page(pfn + i));
		if (i % BATCH_PAGES == BATCH_PAGES - 1) {
			ret = may_go_on();
			if (ret)
				return ret;
		}
	}

	return 0;
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

	/*
	 * A single page comes from the page allocator anyway, and without CMA
	 * everything does.
	 */
	if (!IS_ENABLED(CONFIG_DMA_CMA) || pages == 1)
		return -ENOMEM;

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
	add_piece(memory, pfn, pages);
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
				    unsigned long align)
{
	gfp_t gfp = GFP_KERNEL_MAYFAIL | __GFP_ZERO;
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
	free_split_pages(page_to_pfn(page) + pages, (1UL << order) - pages);
	add_piece(memory, page_to_pfn(page), pages);

	return 0;
}

static int alloc_one_piece(struct dmabuf_memory *memory)
{
	memory->pieces = kvmalloc_array(1, sizeof(*memory->pieces), GFP_KERNEL);

	return memory->pieces ? 0 : -ENOMEM;
}

/**
 * dmabuf_memory_alloc_contiguous() - allocate one piece below 4 GiB
 * @memory:	to be filled, zero before
 * @pages:	how many
 * @align:	what the first of them is a multiple of, in pages, a power of two
 * @backing:	DMABUF_PAGES for nothing but the page allocator, or
 *		DMABUF_CONTIGUOUS for CMA before it
 *
 * Return: 0, -ENOMEM, or -EINTR after a fatal signal.
 */
int dmabuf_memory_alloc_contiguous(struct dmabuf_memory *memory, unsigned long pages,
				   unsigned long align, enum dmabuf_backing backing)
{
	int ret;

	if (!leaves_enough(max(pages, align)))
		return -ENOMEM;
	ret = alloc_one_piece(memory);
	if (ret)
		return ret;
	ret = backing == DMABUF_PAGES ? -ENOMEM : fill_from_dma_api(memory, pages, align);
	if (ret == -ENOMEM)
		ret = fill_from_page_allocator(memory, pages, align);
	if (ret)
		kvfree(memory->pieces);

	return ret;
}

/**
 * dmabuf_memory_alloc_carveout() - allocate one piece of a carveout
 * @memory:	to be filled, zero before
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

	ret = alloc_one_piece(memory);
	if (ret)
		return ret;
	ret = dmabuf_carveout_alloc(carveout, pages, align, &pfn);
	if (ret)
		goto free_pieces;
	ret = zero_pages(pfn, pages);
	if (ret)
		goto free_pages;
	memory->carveout = carveout;
	add_piece(memory, pfn, pages);

	return 0;

free_pages:
	dmabuf_carveout_free(carveout, pfn, pages);
free_pieces:
	kvfree(memory->pieces);
	return ret;
}

/**
 * dmabuf_memory_sync() - have caches written back, by mapping page after page
 * @memory:	the memory
 * @offset:	the first byte
 * @len:	bytes, all in @memory
 * @direction:	DMA_TO_DEVICE: what the CPU wrote reaches memory. For fresh
 *		memory, mapped by nobody, DMA_BIDIRECTIONAL: it is dropped from
 *		the cache, too; what others write meanwhile would be lost.
 *
 * What is left in the cache of memory that will be mapped uncached would reach
 * it later, over what was written there. Cached memory needs it too: mapping
 * it for a device that writes (DMA_FROM_DEVICE) may throw the cache away, and
 * what the memory held before it was zeroed would show. Page by page: larger
 * pieces fail where bounce buffers are small.
 *
 * Return: 0, -ENOMEM, or -EINTR after a fatal signal.
 */
int dmabuf_memory_sync(const struct dmabuf_memory *memory, size_t offset, size_t len,
		       enum dma_data_direction direction)
{
	const struct dmabuf_piece *piece = memory->pieces;
	unsigned long at = offset >> PAGE_SHIFT;
	struct device *dev = dmabuf_dma_device();
	unsigned long done;
	dma_addr_t dma;
	size_t bytes;
	int ret;

	offset = offset_in_page(offset);
	for (done = 1; len; done++, at++) {
		while (at >= piece->pages) {
			at -= piece->pages;
			piece++;
		}
		bytes = min_t(size_t, len, PAGE_SIZE - offset);
		dma = dma_map_page(dev, pfn_to_page(piece->pfn + at), offset, bytes, direction);
		if (dma_mapping_error(dev, dma))
			return -ENOMEM;
		dma_unmap_page(dev, dma, bytes, direction);
		if (done % BATCH_PAGES == 0) {
			ret = may_go_on();
			if (ret)
				return ret;
		}
		offset = 0;
		len -= bytes;
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
			free_split_pages(memory->pieces[i].pfn, memory->pieces[i].pages);
	kvfree(memory->pieces);
}
