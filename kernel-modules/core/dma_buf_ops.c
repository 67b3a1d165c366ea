// SPDX-License-Identifier: GPL-2.0-only
/*
 * The one set of dma-buf operations, in the order a dma-buf lives. All dma-bufs
 * over a buffer share its attachments, so that a cache sync through one of them
 * reaches devices that came by another.
 */
#include <linux/dma-buf.h>
#include <linux/err.h>
#include <linux/highmem.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "core.h"
#include "trace.h"

static struct dmabuf_buffer *buffer_of(const struct dma_buf *dmabuf)
{
	const struct dmabuf_share *share = dmabuf->priv;

	return share->buffer;
}

static unsigned long max_segment_pages(struct device *dev)
{
	size_t bytes = min_t(size_t, dma_get_max_seg_size(dev), dma_max_mapping_size(dev));

	return max(bytes >> PAGE_SHIFT, (size_t)1);
}

static int fill_table(struct sg_table *table, const struct dmabuf_memory *memory,
		      unsigned long max_pages)
{
	const struct dmabuf_piece *end = memory->pieces + memory->count;
	const struct dmabuf_piece *piece;
	unsigned long count = 0;
	struct scatterlist *sg;
	unsigned long done;
	unsigned long now;
	int ret;

	for (piece = memory->pieces; piece < end; piece++)
		count += DIV_ROUND_UP(piece->pages, max_pages);
	if (count > UINT_MAX)
		return -ENOMEM;
	ret = sg_alloc_table(table, count, GFP_KERNEL);
	if (ret)
		return ret;

	sg = table->sgl;
	for (piece = memory->pieces; piece < end; piece++) {
		for (done = 0; done < piece->pages; done += now) {
			now = min(piece->pages - done, max_pages);
			sg_set_page(sg, pfn_to_page(piece->pfn + done), now << PAGE_SHIFT, 0);
			sg = sg_next(sg);
		}
	}

	return 0;
}

static int dmabuf_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	struct dmabuf_buffer *buffer = buffer_of(dmabuf);
	struct dmabuf_attachment *attachment;
	int ret;

	attachment = kzalloc(sizeof(*attachment), GFP_KERNEL);
	if (!attachment)
		return -ENOMEM;
	attachment->dev = attach->dev;
	ret = fill_table(&attachment->table, &buffer->memory, max_segment_pages(attach->dev));
	if (ret) {
		kfree(attachment);
		return ret;
	}
	attach->priv = attachment;

	mutex_lock(&buffer->lock);
	list_add(&attachment->node, &buffer->attachments);
	mutex_unlock(&buffer->lock);

	return 0;
}

static void dmabuf_detach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	struct dmabuf_attachment *attachment = attach->priv;
	struct dmabuf_buffer *buffer = buffer_of(dmabuf);

	mutex_lock(&buffer->lock);
	list_del(&attachment->node);
	mutex_unlock(&buffer->lock);

	sg_free_table(&attachment->table);
	kfree(attachment);
}

/* In the direction of the mapping, which is the one the DMA API knows it by. */
static void sync_for_cpu(const struct dmabuf_buffer *buffer, struct dmabuf_attachment *attachment)
{
	trace_dmabuf_sync_for_cpu(buffer, attachment);
	dma_sync_sgtable_for_cpu(attachment->dev, &attachment->table, attachment->direction);
}

static void sync_for_device(const struct dmabuf_buffer *buffer,
			    struct dmabuf_attachment *attachment)
{
	trace_dmabuf_sync_for_device(buffer, attachment);
	dma_sync_sgtable_for_device(attachment->dev, &attachment->table, attachment->direction);
}

static int write_back(struct dmabuf_buffer *buffer, size_t offset, size_t len)
{
	int ret;

	lockdep_assert_held(&buffer->write_back_lock);
	if (buffer->write_combined || !len)
		return 0;

	trace_dmabuf_write_back(buffer, offset, len);
	ret = dmabuf_memory_sync(&buffer->memory, offset, len, DMA_TO_DEVICE);
	if (!ret && len == dmabuf_buffer_size(buffer))
		buffer->zeroes_in_cache = false;

	return ret;
}

/*
 * What the memory held before it was zeroed must not come to light again where
 * a device that only writes has the cache thrown away.
 */
static int write_back_zeroes(struct dmabuf_buffer *buffer)
{
	int ret;

	ret = mutex_lock_killable(&buffer->write_back_lock);
	if (ret)
		return ret;
	if (buffer->zeroes_in_cache)
		ret = write_back(buffer, 0, dmabuf_buffer_size(buffer));
	mutex_unlock(&buffer->write_back_lock);

	return ret;
}

/*
 * Mapping and unmapping leave the caches alone, which are then synced
 * explicitly: else two devices on one buffer look like a driver's mistake to
 * the debugging of the DMA API.
 */
static struct sg_table *dmabuf_map(struct dma_buf_attachment *attach,
				   enum dma_data_direction direction)
{
	struct dmabuf_buffer *buffer = buffer_of(attach->dmabuf);
	struct dmabuf_attachment *attachment = attach->priv;
	struct sg_table *table = &attachment->table;
	int ret;

	ret = direction == DMA_FROM_DEVICE ? write_back_zeroes(buffer) : 0;
	if (ret)
		return ERR_PTR(ret);
	mutex_lock(&buffer->lock);
	/* A second mapping would overwrite the addresses of the first. */
	if (attachment->mapped) {
		ret = -EBUSY;
		goto unlock;
	}
	ret = dma_map_sgtable(attachment->dev, table, direction, DMA_ATTR_SKIP_CPU_SYNC);
	if (ret)
		goto unlock;
	attachment->direction = direction;
	attachment->mapped = true;
	trace_dmabuf_map(buffer, attachment);
	sync_for_device(buffer, attachment);
unlock:
	mutex_unlock(&buffer->lock);

	return ret ? ERR_PTR(ret) : table;
}

static void dmabuf_unmap(struct dma_buf_attachment *attach, struct sg_table *table,
			 enum dma_data_direction direction)
{
	struct dmabuf_buffer *buffer = buffer_of(attach->dmabuf);
	struct dmabuf_attachment *attachment = attach->priv;

	/*
	 * Our own table and direction: with DMABUF_DEBUG the importer's table
	 * is not the one it got from us.
	 */
	mutex_lock(&buffer->lock);
	attachment->mapped = false;
	sync_for_cpu(buffer, attachment);
	trace_dmabuf_unmap(buffer, attachment);
	dma_unmap_sgtable(attachment->dev, &attachment->table, attachment->direction,
			  DMA_ATTR_SKIP_CPU_SYNC);
	mutex_unlock(&buffer->lock);
}

/* Write-combined buffers are synced too: their pages may be bounced. */
static void begin_cpu_access(struct dmabuf_buffer *buffer)
{
	struct dmabuf_attachment *attachment;

	lockdep_assert_held(&buffer->lock);
	list_for_each_entry(attachment, &buffer->attachments, node)
		if (attachment->mapped)
			sync_for_cpu(buffer, attachment);
	if (buffer->vmap_count && !buffer->write_combined)
		invalidate_kernel_vmap_range(buffer->vaddr, dmabuf_buffer_size(buffer));
}

static int dmabuf_begin_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	struct dmabuf_buffer *buffer = buffer_of(dmabuf);

	mutex_lock(&buffer->lock);
	begin_cpu_access(buffer);
	mutex_unlock(&buffer->lock);

	return 0;
}

static void sync_for_devices(const struct dmabuf_buffer *buffer, bool only_writers)
{
	struct dmabuf_attachment *attachment;
	bool only_writes;

	lockdep_assert_held(&buffer->lock);
	list_for_each_entry(attachment, &buffer->attachments, node) {
		only_writes = attachment->direction == DMA_FROM_DEVICE;
		if (attachment->mapped && only_writes == only_writers)
			sync_for_device(buffer, attachment);
	}
}

static void end_cpu_access(struct dmabuf_buffer *buffer)
{
	lockdep_assert_held(&buffer->lock);
	if (buffer->vmap_count && !buffer->write_combined)
		flush_kernel_vmap_range(buffer->vaddr, dmabuf_buffer_size(buffer));
	/*
	 * The devices that only write come last: syncing for them may throw the
	 * cache away, and with it what the others are to read.
	 */
	sync_for_devices(buffer, false);
	sync_for_devices(buffer, true);
}

static int dmabuf_end_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	struct dmabuf_buffer *buffer = buffer_of(dmabuf);

	mutex_lock(&buffer->lock);
	end_cpu_access(buffer);
	mutex_unlock(&buffer->lock);

	return 0;
}

static bool may_map(struct dmabuf_buffer *buffer)
{
	return atomic_long_inc_unless_negative(&buffer->heap->cpu_mappings);
}

static void is_unmapped(struct dmabuf_buffer *buffer)
{
	atomic_long_dec(&buffer->heap->cpu_mappings);
}

static void dmabuf_vma_open(struct vm_area_struct *vma)
{
	struct dmabuf_buffer *buffer = vma->vm_private_data;

	/* There is another, so that the heap is not secured. */
	atomic_long_inc(&buffer->heap->cpu_mappings);
	dmabuf_buffer_get(buffer);
}

static void dmabuf_vma_close(struct vm_area_struct *vma)
{
	struct dmabuf_buffer *buffer = vma->vm_private_data;

	is_unmapped(buffer);
	dmabuf_buffer_put(buffer);
}

/* The piece that a page is in; @pgoff counts from its beginning then. */
static const struct dmabuf_piece *piece_at(const struct dmabuf_memory *memory,
					   unsigned long *pgoff)
{
	const struct dmabuf_piece *piece = memory->pieces;

	while (*pgoff >= piece->pages) {
		*pgoff -= piece->pages;
		piece++;
	}

	return piece;
}

/* What a program has given up itself (MADV_DONTNEED), where it may do so. */
static vm_fault_t dmabuf_vma_fault(struct vm_fault *vmf)
{
	const struct dmabuf_buffer *buffer = vmf->vma->vm_private_data;
	unsigned long pgoff = vmf->pgoff;
	const struct dmabuf_piece *piece;

	if (!(vmf->vma->vm_flags & VM_MIXEDMAP) || pgoff >= buffer->memory.pages)
		return VM_FAULT_SIGBUS;
	piece = piece_at(&buffer->memory, &pgoff);
	vmf->page = pfn_to_page(piece->pfn + pgoff);
	get_page(vmf->page);

	return 0;
}

static const struct vm_operations_struct dmabuf_vm_ops = {
	.open = dmabuf_vma_open,
	.close = dmabuf_vma_close,
	.fault = dmabuf_vma_fault,
};

/*
 * An architecture that learns by a fault that a page is written to has one for
 * each page of a fresh mapping. Nobody asks whether these were.
 */
static pgprot_t remap_prot(const struct vm_area_struct *vma)
{
	pgprot_t prot = vma->vm_page_prot;

	/* x86 takes dirty pages that cannot be written for a shadow stack. */
	if (!(vma->vm_flags & VM_WRITE))
		return prot;

	return __pgprot(pte_val(pte_mkdirty(pfn_pte(0, prot))));
}

static int remap_pieces(const struct dmabuf_memory *memory, struct vm_area_struct *vma,
			unsigned long pgoff)
{
	const struct dmabuf_piece *piece = piece_at(memory, &pgoff);
	unsigned long address = vma->vm_start;
	pgprot_t prot = remap_prot(vma);
	unsigned long bytes;
	int ret;

	while (address < vma->vm_end) {
		bytes = min((piece->pages - pgoff) << PAGE_SHIFT, vma->vm_end - address);
		ret = remap_pfn_range(vma, address, piece->pfn + pgoff, bytes, prot);
		if (ret) {
			/* Not only when the caller's mmap() comes to its end. */
			zap_vma_ptes(vma, vma->vm_start, vma->vm_end - vma->vm_start);
			return ret;
		}
		address += bytes;
		pgoff = 0;
		piece++;
	}

	return 0;
}

/*
 * Page by page, as the kernel's own memory: a reference on each that direct I/O
 * has while it lasts keeps the page, though the buffer may be gone. What is
 * mapped where this fails goes when the caller's mmap() comes to its end; the
 * mapping has references, too.
 */
static int insert_pieces(const struct dmabuf_memory *memory, struct vm_area_struct *vma,
			 unsigned long pgoff)
{
	const struct dmabuf_piece *piece = piece_at(memory, &pgoff);
	unsigned long address;
	int ret;

	compat_vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	for (address = vma->vm_start; address < vma->vm_end; address += PAGE_SIZE) {
		ret = vm_insert_page(vma, address, pfn_to_page(piece->pfn + pgoff));
		if (ret)
			return ret;
		if (++pgoff == piece->pages) {
			piece++;
			pgoff = 0;
		}
		if (!IS_ALIGNED(address, SZ_1M))
			continue;
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
	}

	return 0;
}

static int dmabuf_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct dmabuf_buffer *buffer = buffer_of(dmabuf);
	unsigned long pages = buffer->memory.pages;
	unsigned long pgoff = vma->vm_pgoff;
	int ret;

	if (!may_map(buffer))
		return -EPERM;
	ret = -EINVAL;
	/*
	 * VM_SHARED is absent from a shared mapping of a file that is open for
	 * reading only.
	 */
	if (!(vma->vm_flags & VM_MAYSHARE))
		goto unmapped;
	/* An importer maps it for whoever may write to the importer's own file. */
	if (!(dmabuf->file->f_mode & FMODE_WRITE)) {
		if (vma->vm_flags & VM_WRITE) {
			ret = -EACCES;
			goto unmapped;
		}
		compat_vm_flags_clear(vma, VM_MAYWRITE);
	}
	if (pgoff >= pages || vma_pages(vma) > pages - pgoff)
		goto unmapped;

	if (buffer->write_combined)
		vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
	/*
	 * What the CPU copies goes through its cache, which an uncached mapping
	 * does not see. An importer may have made it a mapping without pages.
	 */
	if (buffer->heap->direct_io && !buffer->write_combined && !(vma->vm_flags & VM_PFNMAP))
		ret = insert_pieces(&buffer->memory, vma, pgoff);
	else
		ret = remap_pieces(&buffer->memory, vma, pgoff);
	if (ret)
		goto unmapped;

	dmabuf_buffer_get(buffer);
	vma->vm_private_data = buffer;
	vma->vm_ops = &dmabuf_vm_ops;
	trace_dmabuf_mmap(buffer, pgoff << PAGE_SHIFT, vma->vm_end - vma->vm_start);

	return 0;

unmapped:
	is_unmapped(buffer);
	return ret;
}

static void *vmap_pieces(const struct dmabuf_memory *memory, pgprot_t prot)
{
	const struct dmabuf_piece *piece;
	struct page **pages;
	struct page **next;
	unsigned long i;
	void *vaddr;

	pages = kvmalloc_array(memory->pages, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return NULL;
	next = pages;
	for (piece = memory->pieces; piece < memory->pieces + memory->count; piece++)
		for (i = 0; i < piece->pages; i++)
			*next++ = pfn_to_page(piece->pfn + i);
	vaddr = vmap(pages, memory->pages, VM_MAP, prot);
	kvfree(pages);

	return vaddr;
}

/**
 * dmabuf_buffer_vmap() - map a buffer into the kernel
 * @buffer:	the buffer
 *
 * Return: its address until the dmabuf_buffer_vunmap() that belongs to this
 * call, or an ERR_PTR: -EPERM while its heap is secured, -ENOMEM.
 */
void *dmabuf_buffer_vmap(struct dmabuf_buffer *buffer)
{
	pgprot_t prot = PAGE_KERNEL;
	void *vaddr;

	if (!may_map(buffer))
		return ERR_PTR(-EPERM);
	if (buffer->write_combined)
		prot = pgprot_writecombine(prot);

	mutex_lock(&buffer->lock);
	if (!buffer->vmap_count)
		buffer->vaddr = vmap_pieces(&buffer->memory, prot);
	if (buffer->vaddr)
		buffer->vmap_count++;
	vaddr = buffer->vaddr;
	mutex_unlock(&buffer->lock);
	if (!vaddr) {
		is_unmapped(buffer);
		return ERR_PTR(-ENOMEM);
	}

	return vaddr;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_vmap);

/**
 * dmabuf_buffer_vunmap() - undo one dmabuf_buffer_vmap()
 * @buffer:	the buffer
 */
void dmabuf_buffer_vunmap(struct dmabuf_buffer *buffer)
{
	mutex_lock(&buffer->lock);
	if (!--buffer->vmap_count) {
		vunmap(buffer->vaddr);
		buffer->vaddr = NULL;
	}
	mutex_unlock(&buffer->lock);
	is_unmapped(buffer);
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_vunmap);

/**
 * dmabuf_buffer_find_mapped() - find memory by where the caller has mapped it
 * @buffer:	the buffer it has to be of
 * @address:	in the caller's address space
 * @len:	bytes
 * @offset:	where it begins in @buffer (out)
 *
 * Return: 0, -EINTR after a fatal signal, or -EINVAL where it is not inside of
 * one mapping of a dma-buf over @buffer.
 */
int dmabuf_buffer_find_mapped(struct dmabuf_buffer *buffer, unsigned long address, size_t len,
			      size_t *offset)
{
	const struct vm_area_struct *vma;
	int ret = -EINVAL;

	if (mmap_read_lock_killable(current->mm))
		return -EINTR;
	vma = find_vma(current->mm, address);
	if (vma && address >= vma->vm_start && len <= vma->vm_end - address &&
	    vma->vm_ops == &dmabuf_vm_ops && vma->vm_private_data == buffer) {
		*offset = (vma->vm_pgoff << PAGE_SHIFT) + (address - vma->vm_start);
		ret = 0;
	}
	mmap_read_unlock(current->mm);

	return ret;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_find_mapped);

/* Whether a device has to be kept in step, or one that may write. */
static bool is_mapped_for_device(const struct dmabuf_buffer *buffer, bool that_writes)
{
	const struct dmabuf_attachment *attachment;
	bool writes;

	lockdep_assert_held(&buffer->lock);
	list_for_each_entry(attachment, &buffer->attachments, node) {
		writes = attachment->direction != DMA_TO_DEVICE;
		if (attachment->mapped && (writes || !that_writes))
			return true;
	}

	return false;
}

/*
 * Drops from the cache what is in memory too, of a range and of the lines that
 * it ends in: a device may have written there that nobody maps it for, by an
 * address it was told. Where one that writes has it mapped its own sync does
 * that, and a mapping beside it would look like a mistake to the debugging of
 * the DMA API.
 */
static int invalidate(const struct dmabuf_buffer *buffer, size_t offset, size_t len)
{
	size_t line = dma_get_cache_alignment();
	size_t end = round_up(offset + len, line);

	lockdep_assert_held(&buffer->write_back_lock);
	lockdep_assert_held(&buffer->lock);
	if (buffer->write_combined || IS_ENABLED(CONFIG_X86) || is_mapped_for_device(buffer, true))
		return 0;

	offset = round_down(offset, line);
	trace_dmabuf_invalidate(buffer, offset, end - offset);

	return dmabuf_memory_sync(&buffer->memory, offset, end - offset, DMA_BIDIRECTIONAL);
}

/**
 * dmabuf_buffer_flush() - keep caches and bounce buffers in step by hand
 * @buffer:	the buffer
 * @offset:	the first byte
 * @len:	bytes, all inside of @buffer
 * @how:	DMABUF_CLEAN, DMABUF_INVALIDATE or both
 *
 * Attached devices are kept in step with all of the buffer, as by
 * DMA_BUF_IOCTL_SYNC. Since that may throw away what the CPU wrote outside of
 * the range, that is written back before; where a device's memory bounces, its
 * own view of all of the buffer comes instead. Whoever maps the buffer
 * meanwhile finds all of it written back. What the CPU writes to a range while
 * it is invalidated may be lost.
 *
 * Return: 0, -ENOMEM, or -EINTR after a fatal signal.
 */
int dmabuf_buffer_flush(struct dmabuf_buffer *buffer, size_t offset, size_t len,
			unsigned int how)
{
	size_t size = dmabuf_buffer_size(buffer);
	size_t end = offset + len;
	bool devices;
	int ret = 0;

	if (mutex_lock_killable(&buffer->write_back_lock))
		return -EINTR;

	mutex_lock(&buffer->lock);
	devices = is_mapped_for_device(buffer, false);
	mutex_unlock(&buffer->lock);
	if (!(how & DMABUF_CLEAN)) {
		if (devices)
			ret = write_back(buffer, 0, offset) ?: write_back(buffer, end, size - end);
	} else if (devices) {
		ret = write_back(buffer, 0, size);
	} else {
		ret = write_back(buffer, offset, len);
	}
	if (ret)
		goto unlock;

	mutex_lock(&buffer->lock);
	if (how & DMABUF_CLEAN)
		end_cpu_access(buffer);
	if (how & DMABUF_INVALIDATE) {
		ret = invalidate(buffer, offset, len);
		begin_cpu_access(buffer);
	}
	mutex_unlock(&buffer->lock);
unlock:
	mutex_unlock(&buffer->write_back_lock);

	return ret;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_flush);

static COMPAT_VMAP_OP(dmabuf_vmap)
{
	void *vaddr = dmabuf_buffer_vmap(buffer_of(dmabuf));

	return COMPAT_VMAP_RESULT(vaddr);
}

static COMPAT_VUNMAP_OP(dmabuf_vunmap)
{
	dmabuf_buffer_vunmap(buffer_of(dmabuf));
}

static void dmabuf_release(struct dma_buf *dmabuf)
{
	struct dmabuf_share *share = dmabuf->priv;
	struct dmabuf_buffer *buffer = share->buffer;

	mutex_lock(&buffer->lock);
	list_del(&share->node);
	mutex_unlock(&buffer->lock);
	kfree(share);
	dmabuf_buffer_put(buffer);
}

const struct dma_buf_ops dmabuf_ops = {
	.attach = dmabuf_attach,
	.detach = dmabuf_detach,
	.map_dma_buf = dmabuf_map,
	.unmap_dma_buf = dmabuf_unmap,
	.begin_cpu_access = dmabuf_begin_cpu_access,
	.end_cpu_access = dmabuf_end_cpu_access,
	.mmap = dmabuf_mmap,
	.vmap = dmabuf_vmap,
	.vunmap = dmabuf_vunmap,
	.release = dmabuf_release,
};
