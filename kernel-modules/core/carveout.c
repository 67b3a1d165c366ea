// SPDX-License-Identifier: GPL-2.0-only
/*
 * Carveouts: regions of memory set aside, of which buffers are contiguous
 * pieces. And blocks: one piece of memory, for carveouts on machines that have
 * no region reserved.
 */
#include <linux/bitmap.h>
#include <linux/err.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "core.h"

/**
 * struct dmabuf_carveout - a region that buffers are pieces of
 * @pfn:	its first page
 * @pages:	pages in all
 * @lock:	protects @used
 * @used:	a bit for each page
 */
struct dmabuf_carveout {
	unsigned long pfn;
	unsigned long pages;
	struct mutex lock;	/* used */
	unsigned long *used;
};

/**
 * struct dmabuf_block - one piece of memory below 4 GiB
 * @memory:	the memory
 */
struct dmabuf_block {
	struct dmabuf_memory memory;
};

/**
 * dmabuf_block_alloc() - allocate one piece of memory, from CMA if possible
 * @size:	bytes, whole pages
 *
 * Return: the block, or an ERR_PTR: -ENOMEM, -EINTR.
 */
struct dmabuf_block *dmabuf_block_alloc(u64 size)
{
	struct dmabuf_block *block;
	int ret;

	if (size > SIZE_MAX)
		return ERR_PTR(-ENOMEM);
	block = kzalloc(sizeof(*block), GFP_KERNEL);
	if (!block)
		return ERR_PTR(-ENOMEM);
	ret = dmabuf_memory_alloc_contiguous(&block->memory, size >> PAGE_SHIFT, 1,
					     DMABUF_CONTIGUOUS, NULL, NULL);
	if (ret) {
		kfree(block);
		return ERR_PTR(ret);
	}

	return block;
}
EXPORT_SYMBOL_DMABUF(dmabuf_block_alloc);

/**
 * dmabuf_block_phys() - where a block begins
 * @block:	the block
 *
 * Return: its physical address.
 */
phys_addr_t dmabuf_block_phys(const struct dmabuf_block *block)
{
	return PFN_PHYS(block->memory.pieces[0].pfn);
}
EXPORT_SYMBOL_DMABUF(dmabuf_block_phys);

/**
 * dmabuf_block_free() - give a block back
 * @block:	the block
 */
void dmabuf_block_free(struct dmabuf_block *block)
{
	dmabuf_memory_free(&block->memory);
	kfree(block);
}
EXPORT_SYMBOL_DMABUF(dmabuf_block_free);

/**
 * dmabuf_carveout_create() - hand out buffers from a region
 * @base:	physical address of its first page
 * @size:	bytes, whole pages; the region is the caller's alone
 *
 * Return: the carveout, or an ERR_PTR: -ENXIO where it is not all RAM that has
 * struct pages, -ENOMEM.
 */
struct dmabuf_carveout *dmabuf_carveout_create(phys_addr_t base, u64 size)
{
	struct dmabuf_carveout *carveout;
	unsigned long i;

	/* What the functions for bitmaps take. */
	if (size >> PAGE_SHIFT > INT_MAX)
		return ERR_PTR(-ENXIO);
	carveout = kzalloc(sizeof(*carveout), GFP_KERNEL);
	if (!carveout)
		return ERR_PTR(-ENOMEM);
	carveout->pfn = PHYS_PFN(base);
	carveout->pages = size >> PAGE_SHIFT;
	for (i = 0; i < carveout->pages; i++) {
		/* A struct page alone does not make memory: it may be in a hole. */
		if (!pfn_valid(carveout->pfn + i) || !page_is_ram(carveout->pfn + i)) {
			kfree(carveout);
			return ERR_PTR(-ENXIO);
		}
	}
	carveout->used = kvcalloc(BITS_TO_LONGS(carveout->pages), sizeof(long), GFP_KERNEL);
	if (!carveout->used) {
		kfree(carveout);
		return ERR_PTR(-ENOMEM);
	}
	mutex_init(&carveout->lock);

	return carveout;
}
EXPORT_SYMBOL_DMABUF(dmabuf_carveout_create);

/**
 * dmabuf_carveout_destroy() - undo dmabuf_carveout_create()
 * @carveout:	the carveout, no buffer of which is left
 */
void dmabuf_carveout_destroy(struct dmabuf_carveout *carveout)
{
	mutex_destroy(&carveout->lock);
	kvfree(carveout->used);
	kfree(carveout);
}
EXPORT_SYMBOL_DMABUF(dmabuf_carveout_destroy);

/**
 * dmabuf_carveout_alloc() - take the first run that is large enough
 * @carveout:	the carveout
 * @pages:	how many
 * @align:	what the first of them is a multiple of, in pages, a power of two
 * @pfn:	the first of them (out)
 *
 * Return: 0 or -ENOMEM.
 */
int dmabuf_carveout_alloc(struct dmabuf_carveout *carveout, unsigned long pages,
			  unsigned long align, unsigned long *pfn)
{
	unsigned long first;
	int ret = -ENOMEM;

	if (pages > carveout->pages)
		return ret;

	mutex_lock(&carveout->lock);
	first = bitmap_find_next_zero_area_off(carveout->used, carveout->pages, 0, pages,
					       align - 1, carveout->pfn);
	if (first < carveout->pages) {
		bitmap_set(carveout->used, first, pages);
		*pfn = carveout->pfn + first;
		ret = 0;
	}
	mutex_unlock(&carveout->lock);

	return ret;
}

/**
 * dmabuf_carveout_free() - undo dmabuf_carveout_alloc()
 * @carveout:	the carveout
 * @pfn:	the first page
 * @pages:	how many
 */
void dmabuf_carveout_free(struct dmabuf_carveout *carveout, unsigned long pfn,
			  unsigned long pages)
{
	mutex_lock(&carveout->lock);
	bitmap_clear(carveout->used, pfn - carveout->pfn, pages);
	mutex_unlock(&carveout->lock);
}

/**
 * dmabuf_carveout_base() - where a carveout begins
 * @carveout:	the carveout
 *
 * Return: its physical address.
 */
phys_addr_t dmabuf_carveout_base(const struct dmabuf_carveout *carveout)
{
	return PFN_PHYS(carveout->pfn);
}

/**
 * dmabuf_carveout_size() - the size of a carveout
 * @carveout:	the carveout
 *
 * Return: bytes.
 */
u64 dmabuf_carveout_size(const struct dmabuf_carveout *carveout)
{
	return (u64)carveout->pages << PAGE_SHIFT;
}

/**
 * dmabuf_carveout_largest_free() - the largest buffer there is room for
 * @carveout:	the carveout
 *
 * Return: bytes.
 */
u64 dmabuf_carveout_largest_free(struct dmabuf_carveout *carveout)
{
	unsigned long largest = 0;
	unsigned long start = 0;
	unsigned long end;

	mutex_lock(&carveout->lock);
	while (start < carveout->pages) {
		end = find_next_bit(carveout->used, carveout->pages, start);
		largest = max(largest, end - start);
		start = find_next_zero_bit(carveout->used, carveout->pages, end);
	}
	mutex_unlock(&carveout->lock);

	return (u64)largest << PAGE_SHIFT;
}
