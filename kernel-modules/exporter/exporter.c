// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/exporter: one buffer with a text in it, for whoever learns what a
 * dma-buf is. Read this file first.
 *
 * A dma-buf is memory behind a file descriptor. Whoever has the memory is its
 * exporter; a driver that lets its device use it, an importer. Programs pass
 * the descriptor around, and need not know what it is made of. An exporter has
 * four things to do. This file says when; what is the same for all our modules
 * is done in core/:
 *
 * 1. Get memory and have it ready before anybody can ask for it. It has to be
 *    zeroed: what it held before is other people's. exporter_init(), and
 *    dmabuf_buffer_alloc() in core/buffer.c
 * 2. Make a dma-buf over it, a file with the operations of step 4 that holds
 *    references on the memory and on a module: dma_buf_export().
 *    exporter_open(), and dmabuf_buffer_share() in core/buffer.c
 * 3. Hand out descriptors of it: fd_install(). exporter_get_fd(), and
 *    dmabuf_reply() in core/buffer.c
 * 4. Answer what importers and programs do with them. These operations stand
 *    in the order of a dma-buf's life in core/dma_buf_ops.c. The kernel insists
 *    on map, unmap and release; without mmap a program has only a descriptor,
 *    without begin and end_cpu_access its caches are nobody's business:
 *
 *    attach, detach	A device comes, and goes. It gets a table of the
 *			buffer's pages of its own: the addresses in it are that
 *			device's, another one behind another IOMMU has others.
 *    map, unmap	The table is filled with addresses the device can use,
 *			and what the CPU wrote is brought to memory, or to the
 *			bounce buffer: now it is the device's turn. With unmap
 *			that is over, and what the device wrote is brought to
 *			the CPU. The direction says which of the two is done.
 *    begin and		The CPU is about to look, and has looked:
 *    end_cpu_access	DMA_BUF_IOCTL_SYNC. Caches and bounce buffers of every
 *			attached device are brought in step, of none where
 *			there is none: an empty list has no first entry.
 *    mmap		For programs. Offset and length are checked against the
 *			buffer: an offset that is added to an address unchecked
 *			shows all memory of the machine. Only shared mappings:
 *			a private one would be a copy that no device sees.
 *    vmap, vunmap	For drivers that read or write by the CPU.
 *    release		The last reference is gone, and with it one on the
 *			memory. Nothing else may free it: a descriptor may be
 *			in a message nobody has read yet.
 *
 * Who waits for whom is no exporter's business here: a driver whose device is
 * still at work puts a fence into the dma-buf (dma_resv), and poll() waits for
 * it. map and unmap come with the lock of these held (the reservation lock), so
 * that no operation may take it again.
 *
 * The tutorials' exporter also exports a symbol of the kernel by which a second
 * module gets at its dma-buf. There is none here: an importer takes the
 * descriptor a program gives it (dma_buf_get()), and so works with any exporter.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-buf.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/string.h>

#include <uapi/dmabuf/exporter.h>

#include "compat.h"
#include "dmabuf_core.h"

/* 0444: whoever wants to know may read them, and nobody change them. */
static unsigned long long size = PAGE_SIZE;
module_param(size, ullong, 0444);
MODULE_PARM_DESC(size, "Size of the buffer in bytes, made whole pages (default: one page)");

static char *message = "hello world";
module_param(message, charp, 0444);
MODULE_PARM_DESC(message, "Text in the buffer, a NUL after it (default: hello world)");

/*
 * The module's reference, from loading to unloading: for it to be there before
 * the first opener, and the same for all of them. What belongs to one opener is
 * in its file.
 */
static struct dmabuf_buffer *buffer;

/*
 * Each opener has a dma-buf of its own, over the same memory. The access mode
 * of a dma-buf is that of its file, which all its descriptors share: a reader's
 * is read-only too, so that it cannot change what others read. (A device could
 * still write to it. The kernel has no dma-bufs that are read-only for devices.)
 *
 * Making it takes a reference on the buffer, and one on the owner of the
 * device's file operations, this module: exporter_heap and exporter_device,
 * which the buffer leads to, must be there as long as an operation may be
 * called, which is longer than the device is open. The code of the operations is
 * dmabuf_core's, which this module keeps loaded.
 */
static int exporter_open(struct inode *inode, struct file *file)
{
	struct dma_buf *dmabuf;

	dmabuf = dmabuf_buffer_share(buffer, file->f_flags & O_ACCMODE);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	file->private_data = dmabuf;

	return 0;
}

/*
 * Gives up the opener's own reference. The dma-buf goes on as long as there is
 * a descriptor, a mapping or an importer of it.
 */
static int exporter_release(struct inode *inode, struct file *file)
{
	dma_buf_put(file->private_data);

	return 0;
}

/*
 * A descriptor takes a reference with it, which close() gives up. Each call has
 * to get one first: without, the first close() would free what this file, and
 * every other descriptor, still points to.
 *
 * The order matters (dmabuf_reply()). A number is reserved, the number is
 * written to the program, and only then the file is put behind it: from there
 * on another thread can close it, and there is no way back. Where anything
 * before fails, the number and the reference are given back, here the reference
 * of this call only.
 *
 * O_CLOEXEC, so that programs this one starts do not inherit it unasked.
 */
static long exporter_get_fd(struct dma_buf *dmabuf, int __user *arg)
{
	int fd;

	get_dma_buf(dmabuf);

	return dmabuf_reply(dmabuf, O_CLOEXEC, arg, &fd, sizeof(fd), &fd);
}

/*
 * A number made by _IOR() says which driver it is for and how large its
 * argument is. The tutorials' 0 says nothing, and works as well.
 */
static long exporter_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case EXPORTER_GET_FD:
	case EXPORTER_IOC_GET_FD:
		return exporter_get_fd(file->private_data, (int __user *)arg);
	default:
		return -ENOTTY;
	}
}

/*
 * The mapping becomes one of the dma-buf's file and keeps that alive: it may
 * outlive the device's file. It ends in the dma-buf's own mmap operation, which
 * checks offset and length.
 */
static int exporter_mmap(struct file *file, struct vm_area_struct *vma)
{
	return dma_buf_mmap(file->private_data, vma, vma->vm_pgoff);
}

static const struct file_operations exporter_fops = {
	/* An open device keeps the module, too. */
	.owner = THIS_MODULE,
	.open = exporter_open,
	.unlocked_ioctl = exporter_ioctl,
	/* A pointer to an int is the same to programs of 32 bits. */
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = exporter_mmap,
	.release = exporter_release,
};

static struct dmabuf_device exporter_device = {
	.misc = {
		.minor = MISC_DYNAMIC_MINOR,
		.name = "exporter",
		.fops = &exporter_fops,
	},
};

/* Pages from anywhere: a device sees them as one piece only behind an IOMMU. */
static struct dmabuf_heap exporter_heap = {
	.name = "exporter",
	.exp_name = KBUILD_MODNAME,
	.backing = DMABUF_SCATTERED,
};

/*
 * Pages may have no address in the kernel (highmem), and lie apart: a mapping
 * gives them one. What is written through it may linger in a cache that goes by
 * the address it was written at, which programs do not read at.
 */
static int write_message(void)
{
	size_t bytes = strlen(message) + 1;
	void *vaddr;

	/*
	 * Not with pages of 4 KiB and up: the kernel takes no parameter of more
	 * than 1024 characters. But nobody here promised that.
	 */
	if (bytes > dmabuf_buffer_size(buffer))
		return -EINVAL;
	vaddr = dmabuf_buffer_vmap(buffer);
	if (IS_ERR(vaddr))
		return PTR_ERR(vaddr);
	memcpy(vaddr, message, bytes);
	flush_kernel_vmap_range(vaddr, bytes);
	dmabuf_buffer_vunmap(buffer);

	return 0;
}

/*
 * The device comes last: it can be opened before misc_register() returns, and
 * all it hands out must be there by then. What fails undoes what came before
 * it, in reverse.
 */
static int __init exporter_init(void)
{
	int ret;

	dmabuf_device_init(&exporter_device);
	dmabuf_heap_add(&exporter_device, &exporter_heap);
	buffer = dmabuf_buffer_alloc(&exporter_heap, NULL, size, true);
	if (IS_ERR(buffer)) {
		ret = PTR_ERR(buffer);
		pr_err("size=%llu: %s\n", size, ret == -EINVAL ?
		       "a buffer has at least one byte, and a size that can be made whole pages" :
		       "there is not that much memory");
		return ret;
	}
	ret = write_message();
	if (ret)
		goto put_buffer;
	ret = dmabuf_device_register(&exporter_device);
	if (ret)
		goto put_buffer;

	return 0;

put_buffer:
	dmabuf_buffer_put(buffer);
	return ret;
}

/* Only called while nobody holds a device, a descriptor or a mapping. */
static void __exit exporter_exit(void)
{
	dmabuf_device_unregister(&exporter_device);
	dmabuf_buffer_put(buffer);
}

module_init(exporter_init);
module_exit(exporter_exit);

MODULE_DESCRIPTION("/dev/exporter: a text in a dma-buf");
MODULE_LICENSE("GPL");
COMPAT_IMPORT_NS(DMA_BUF);
COMPAT_IMPORT_NS(DMABUF_CORE);
