// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/exporter: one buffer with a text in it, for whoever learns what a
 * dma-buf is. The buffer lives as long as the module.
 */
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

static unsigned long long size = PAGE_SIZE;
module_param(size, ullong, 0444);
MODULE_PARM_DESC(size, "Size of the buffer in bytes, made whole pages (default: one page)");

static char *message = "hello world";
module_param(message, charp, 0444);
MODULE_PARM_DESC(message, "Text in the buffer, a NUL after it (default: hello world)");

static struct dmabuf_buffer *buffer;

/*
 * Each opener has a dma-buf of its own. A reader's is read-only too: it must
 * not change what others read.
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

static int exporter_release(struct inode *inode, struct file *file)
{
	dma_buf_put(file->private_data);

	return 0;
}

static long exporter_get_fd(struct dma_buf *dmabuf, int __user *arg)
{
	int fd;

	/* The descriptor has a reference of its own. */
	get_dma_buf(dmabuf);

	return dmabuf_reply(dmabuf, O_CLOEXEC, arg, &fd, sizeof(fd), &fd);
}

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

static int exporter_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* The mapping becomes one of the dma-buf's file and keeps that alive. */
	return dma_buf_mmap(file->private_data, vma, vma->vm_pgoff);
}

static const struct file_operations exporter_fops = {
	.owner = THIS_MODULE,
	.open = exporter_open,
	.unlocked_ioctl = exporter_ioctl,
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

static struct dmabuf_heap exporter_heap = {
	.name = "exporter",
	.exp_name = KBUILD_MODNAME,
	.backing = DMABUF_SCATTERED,
};

static int write_message(void)
{
	size_t bytes = strlen(message) + 1;
	void *vaddr;

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

static int __init exporter_init(void)
{
	int ret;

	dmabuf_device_init(&exporter_device);
	dmabuf_heap_add(&exporter_device, &exporter_heap);
	buffer = dmabuf_buffer_alloc(&exporter_heap, size, true);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);
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
