// SPDX-License-Identifier: GPL-2.0-only
/* A buffer's life: allocated, shared as dma-bufs, freed with its last user. */
#include <linux/dma-buf.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "core.h"
#include "trace.h"

static int alloc_pages_for(struct dmabuf_memory *memory, unsigned long pages, unsigned long align,
			   const struct dmabuf_heap *heap, const struct dmabuf_account *account)
{
	switch (heap->backing) {
	case DMABUF_SCATTERED:
		return dmabuf_memory_alloc_scattered(memory, pages, heap);
	case DMABUF_CARVEOUT:
		return dmabuf_memory_alloc_carveout(memory, pages, align, heap->carveout);
	default:
		return dmabuf_memory_alloc_contiguous(memory, pages, align, heap->backing,
						      heap->device, account);
	}
}

/*
 * Whether somebody may see what lies in memory below what the kernel's mapping
 * has in the cache: user space, or whoever reads a page again that direct I/O
 * had the cache thrown away for, and did not write.
 */
static bool zeroes_must_arrive(const struct dmabuf_buffer *buffer)
{
	return buffer->write_combined || buffer->heap->direct_io || dmabuf_caches_alias();
}

static int alloc_memory(struct dmabuf_buffer *buffer, unsigned long pages, unsigned long align)
{
	struct dmabuf_memory *memory = &buffer->memory;
	int ret;

	ret = alloc_pages_for(memory, pages, align, buffer->heap, buffer->account);
	if (ret)
		return ret;
	/* dmabuf_map() has it done for cached memory, if it ever has to be. */
	if (!zeroes_must_arrive(buffer)) {
		buffer->zeroes_in_cache = !IS_ENABLED(CONFIG_X86);
		return 0;
	}

	ret = dmabuf_memory_sync(memory, 0, memory->pages << PAGE_SHIFT, DMA_BIDIRECTIONAL);
	if (ret)
		dmabuf_memory_free(memory);

	return ret;
}

/*
 * What a buffer counts for limits. A page that was aligned keeps the block
 * around it from everybody who wants one of that size.
 */
static u64 charge_for(const struct dmabuf_heap *heap, u64 size, u64 align)
{
	if (heap->backing == DMABUF_SCATTERED || heap->backing == DMABUF_CARVEOUT)
		return size;

	return max(size, align);
}

static int charge_both(struct dmabuf_device *device, struct dmabuf_account *account, u64 size)
{
	int ret;

	/* First the file: what it may not have is not taken from the others for a moment. */
	ret = dmabuf_account_charge(account, size);
	if (ret)
		return ret;
	ret = dmabuf_device_charge(device, size);
	if (ret)
		dmabuf_account_uncharge(account, size);

	return ret;
}

static void uncharge_both(struct dmabuf_device *device, struct dmabuf_account *account, u64 size)
{
	dmabuf_device_uncharge(device, size);
	dmabuf_account_uncharge(account, size);
}

/**
 * dmabuf_buffer_alloc_aligned() - allocate a zeroed buffer
 * @heap:	where from
 * @account:	of the file it is allocated through, or NULL: it is a module's own
 * @len:	bytes wanted, made whole pages
 * @align:	what the physical address of a contiguous buffer is a multiple
 *		of, in bytes: 0 or a power of two
 * @cached:	whether the CPU maps it cached; else write-combined, except on
 *		x86, where DMA sees the caches and RAM has one memory type
 *
 * Return: the buffer with one reference, or an ERR_PTR: -EINVAL for a length
 * that is 0 or cannot be rounded up, -ENOMEM for more than there is, than the
 * device may hand out or the file may have, or than is so aligned, -EINTR after
 * a fatal signal.
 */
struct dmabuf_buffer *dmabuf_buffer_alloc_aligned(struct dmabuf_heap *heap,
						  struct dmabuf_account *account, u64 len,
						  u64 align, bool cached)
{
	/* Numbers that tell buffers apart where addresses must not be shown. */
	static atomic64_t ids;
	struct dmabuf_buffer *buffer;
	u64 size = PAGE_ALIGN(len);
	u64 charge = charge_for(heap, size, align);
	int ret;

	if (size < len || !len)
		return ERR_PTR(-EINVAL);
	/* Half of RAM can be more than that on 32 bit, with LPAE. */
	if (size > SIZE_MAX)
		return ERR_PTR(-ENOMEM);
	ret = charge_both(heap->device, account, charge);
	if (ret)
		return ERR_PTR(ret);

	buffer = kzalloc(sizeof(*buffer), GFP_KERNEL);
	if (!buffer) {
		ret = -ENOMEM;
		goto uncharge;
	}
	kref_init(&buffer->ref);
	buffer->heap = heap;
	buffer->account = account;
	buffer->charge = charge;
	buffer->id = atomic64_inc_return(&ids);
	buffer->pid = task_tgid_nr(current);
	buffer->cached = cached;
	buffer->write_combined = !cached && !IS_ENABLED(CONFIG_X86);
	mutex_init(&buffer->write_back_lock);
	mutex_init(&buffer->lock);
	INIT_LIST_HEAD(&buffer->shares);
	INIT_LIST_HEAD(&buffer->attachments);

	ret = alloc_memory(buffer, size >> PAGE_SHIFT, max_t(u64, align >> PAGE_SHIFT, 1));
	if (ret)
		goto free_buffer;
	dmabuf_heap_count(buffer);
	trace_dmabuf_alloc(buffer);

	return buffer;

free_buffer:
	kfree(buffer);
uncharge:
	uncharge_both(heap->device, account, charge);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_alloc_aligned);

/**
 * dmabuf_buffer_alloc() - allocate a zeroed buffer, wherever it lies
 * @heap:	where from
 * @account:	of the file it is allocated through, or NULL
 * @len:	bytes wanted, made whole pages
 * @cached:	whether the CPU maps it cached
 *
 * Return: as dmabuf_buffer_alloc_aligned().
 */
struct dmabuf_buffer *dmabuf_buffer_alloc(struct dmabuf_heap *heap,
					  struct dmabuf_account *account, u64 len, bool cached)
{
	return dmabuf_buffer_alloc_aligned(heap, account, len, PAGE_SIZE, cached);
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_alloc);

static void free_buffer(struct kref *ref)
{
	struct dmabuf_buffer *buffer = container_of(ref, struct dmabuf_buffer, ref);
	struct dmabuf_device *device = buffer->heap->device;
	struct dmabuf_account *account = buffer->account;
	u64 charge = buffer->charge;

	trace_dmabuf_free(buffer);
	dmabuf_heap_uncount(buffer);
	if (!dmabuf_kept_give(account, buffer->heap->backing, &buffer->memory))
		dmabuf_memory_free(&buffer->memory);
	mutex_destroy(&buffer->lock);
	mutex_destroy(&buffer->write_back_lock);
	kfree(buffer->name);
	kfree(buffer);
	uncharge_both(device, account, charge);
}

/**
 * dmabuf_buffer_set_name() - name the dma-bufs of a buffer
 * @buffer:	the buffer, not shared yet
 * @name:	allocated by kmalloc, shorter than DMA_BUF_NAME_LEN, and
 *		@buffer's from now on; or NULL
 */
void dmabuf_buffer_set_name(struct dmabuf_buffer *buffer, char *name)
{
	buffer->name = name;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_set_name);

/**
 * dmabuf_buffer_get() - take a reference
 * @buffer:	the buffer
 */
void dmabuf_buffer_get(struct dmabuf_buffer *buffer)
{
	kref_get(&buffer->ref);
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_get);

/**
 * dmabuf_buffer_put() - drop a reference; the last one frees the buffer
 * @buffer:	the buffer
 */
void dmabuf_buffer_put(struct dmabuf_buffer *buffer)
{
	kref_put(&buffer->ref, free_buffer);
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_put);

/**
 * dmabuf_buffer_size() - the size of a buffer
 * @buffer:	the buffer
 *
 * Return: bytes, whole pages.
 */
size_t dmabuf_buffer_size(const struct dmabuf_buffer *buffer)
{
	return buffer->memory.pages << PAGE_SHIFT;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_size);

/**
 * dmabuf_buffer_phys() - where a buffer begins
 * @buffer:	a buffer with contiguous backing
 *
 * Return: its physical address.
 */
phys_addr_t dmabuf_buffer_phys(const struct dmabuf_buffer *buffer)
{
	return PFN_PHYS(buffer->memory.pieces[0].pfn);
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_phys);

/**
 * dmabuf_buffer_is_cached() - whether a buffer was allocated as cached
 * @buffer:	the buffer
 *
 * Return: true if it was.
 */
bool dmabuf_buffer_is_cached(const struct dmabuf_buffer *buffer)
{
	return buffer->cached;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_is_cached);

/**
 * dmabuf_buffer_heap() - where a buffer comes from
 * @buffer:	the buffer
 *
 * Return: its heap.
 */
const struct dmabuf_heap *dmabuf_buffer_heap(const struct dmabuf_buffer *buffer)
{
	return buffer->heap;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_heap);

/**
 * dmabuf_buffer_of() - the buffer that a dma-buf shows
 * @dmabuf:	the dma-buf, anybody's
 * @device:	whose buffer it has to be: a reference on a buffer does not keep
 *		the module of its device
 *
 * Return: the buffer with a reference, or an ERR_PTR: -EINVAL where it is no
 * buffer of @device.
 */
struct dmabuf_buffer *dmabuf_buffer_of(const struct dma_buf *dmabuf,
				       const struct dmabuf_device *device)
{
	const struct dmabuf_share *share = dmabuf->priv;

	if (dmabuf->ops != &dmabuf_ops || share->buffer->heap->device != device)
		return ERR_PTR(-EINVAL);
	dmabuf_buffer_get(share->buffer);

	return share->buffer;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_of);

/**
 * dmabuf_buffer_share() - make a dma-buf over a buffer
 * @buffer:	the buffer
 * @mode:	access mode: O_RDONLY, O_WRONLY or O_RDWR
 *
 * It is a new one each time. There is no way back from a buffer to a dma-buf
 * of its: the file of a dma-buf can be freed long before its release operation
 * is called, which waits for whoever has its path open (O_PATH).
 *
 * Return: the dma-buf, with references on the buffer and on the module of the
 * buffer's device, or an ERR_PTR.
 */
struct dma_buf *dmabuf_buffer_share(struct dmabuf_buffer *buffer, int mode)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dmabuf_share *share;
	struct dma_buf *dmabuf;
	char *name = NULL;

	if (buffer->name) {
		name = kstrdup(buffer->name, GFP_KERNEL);
		if (!name)
			return ERR_PTR(-ENOMEM);
	}
	share = kmalloc(sizeof(*share), GFP_KERNEL);
	if (!share) {
		dmabuf = ERR_PTR(-ENOMEM);
		goto free_name;
	}

	info.exp_name = buffer->heap->exp_name;
	info.owner = buffer->heap->device->misc.fops->owner;
	info.ops = &dmabuf_ops;
	info.size = dmabuf_buffer_size(buffer);
	info.flags = mode;
	info.priv = share;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf))
		goto free_share;

	dmabuf_buffer_get(buffer);
	share->buffer = buffer;
	share->dmabuf = dmabuf;
	mutex_lock(&buffer->lock);
	list_add_tail(&share->node, &buffer->shares);
	mutex_unlock(&buffer->lock);

	/* The dma-buf's from now on, which DMA_BUF_SET_NAME may replace. */
	spin_lock(&dmabuf->name_lock);
	dmabuf->name = name;
	spin_unlock(&dmabuf->name_lock);

	return dmabuf;

free_share:
	kfree(share);
free_name:
	kfree(name);
	return dmabuf;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_share);

/**
 * dmabuf_buffer_hand_over() - make a dma-buf that alone keeps a buffer
 * @buffer:	the buffer, of which the caller's reference is gone afterwards,
 *		or an ERR_PTR
 * @mode:	access mode
 *
 * Return: the dma-buf, or an ERR_PTR.
 */
struct dma_buf *dmabuf_buffer_hand_over(struct dmabuf_buffer *buffer, int mode)
{
	struct dma_buf *dmabuf;

	if (IS_ERR(buffer))
		return ERR_CAST(buffer);
	dmabuf = dmabuf_buffer_share(buffer, mode);
	dmabuf_buffer_put(buffer);

	return dmabuf;
}
EXPORT_SYMBOL_DMABUF(dmabuf_buffer_hand_over);

/**
 * dmabuf_valid_fd_flags() - whether a user may ask for a dma-buf with flags
 * @flags:	the flags
 *
 * Return: true for O_CLOEXEC and an access mode.
 */
bool dmabuf_valid_fd_flags(u32 flags)
{
	/* O_ACCMODE itself is no access mode. */
	return !(flags & ~(O_CLOEXEC | O_ACCMODE)) && (flags & O_ACCMODE) != O_ACCMODE;
}
EXPORT_SYMBOL_DMABUF(dmabuf_valid_fd_flags);

/**
 * dmabuf_reply() - answer an ioctl with a descriptor of a dma-buf
 * @dmabuf:	the dma-buf, or the ERR_PTR that came instead of it; the
 *		caller's reference is gone afterwards
 * @fd_flags:	O_CLOEXEC or 0
 * @arg:	where the caller of the ioctl wants the answer
 * @answer:	the answer
 * @size:	its size
 * @fd:		the descriptor's place in it
 *
 * Nobody sees the descriptor before the answer has arrived.
 *
 * Return: 0, or a negative errno, and no descriptor is left behind.
 */
int dmabuf_reply(struct dma_buf *dmabuf, int fd_flags, void __user *arg, const void *answer,
		 size_t size, int *fd)
{
	int ret;

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	ret = get_unused_fd_flags(fd_flags);
	if (ret < 0)
		goto put_dmabuf;
	*fd = ret;
	if (copy_to_user(arg, answer, size)) {
		ret = -EFAULT;
		goto put_fd;
	}
	/* From here on the descriptor is the caller's, and so is the reference. */
	fd_install(*fd, dmabuf->file);

	return 0;

put_fd:
	put_unused_fd(*fd);
put_dmabuf:
	dma_buf_put(dmabuf);
	return ret;
}
EXPORT_SYMBOL_DMABUF(dmabuf_reply);
