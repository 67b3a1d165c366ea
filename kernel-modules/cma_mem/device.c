// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/cma_mem: contiguous memory, mapped through the device itself or shared
 * as a dma-buf. What a file allocated belongs to that open file.
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/dma-buf.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <uapi/dmabuf/cma_mem.h>
#include <uapi/linux/dma-buf.h>

#include "compat.h"
#include "dmabuf_core.h"
#include "regions.h"

static const struct file_operations cmem_fops;

static struct dmabuf_device cmem_device = {
	.misc = {
		.minor = MISC_DYNAMIC_MINOR,
		.name = "cma_mem",
		.fops = &cmem_fops,
	},
};

static struct dmabuf_heap cmem_heap = {
	.name = "cma_mem",
	.exp_name = KBUILD_MODNAME,
	.backing = DMABUF_CONTIGUOUS,
};

module_param_named(max_bytes, cmem_device.max_bytes, ullong, 0444);
MODULE_PARM_DESC(max_bytes, "Most bytes allocated at a time, by all clients (default 0: half of RAM)");

/* struct cmamem_info as 32-bit programs lay it out. */
struct cmamem_info32 {
	u32 name;
	char is_cache;
	u32 id;
	u32 offset;
	u32 len;
	u32 phy_base;
	u32 mem_base;
};

static_assert(sizeof(struct cmamem_info32) == 28);
static_assert(sizeof(struct cmamem_info) == (sizeof(long) == 8 ? 32 : 28));

static int get_info(struct cmamem_info *info, const void __user *arg)
{
	struct cmamem_info32 info32;

	if (!in_compat_syscall())
		return copy_from_user(info, arg, sizeof(*info)) ? -EFAULT : 0;

	if (copy_from_user(&info32, arg, sizeof(info32)))
		return -EFAULT;
	*info = (struct cmamem_info) {
		.name = (char *)(uintptr_t)info32.name,
		.is_cache = info32.is_cache,
		.id = info32.id,
		.offset = info32.offset,
		.len = info32.len,
		.phy_base = info32.phy_base,
		.mem_base = info32.mem_base,
	};

	return 0;
}

static int put_info(void __user *arg, const struct cmamem_info *info)
{
	struct cmamem_info32 info32;

	if (!in_compat_syscall())
		return copy_to_user(arg, info, sizeof(*info)) ? -EFAULT : 0;

	memset(&info32, 0, sizeof(info32));
	info32.name = (uintptr_t)info->name;
	info32.is_cache = info->is_cache;
	info32.id = info->id;
	info32.offset = info->offset;
	info32.len = info->len;
	info32.phy_base = info->phy_base;
	info32.mem_base = info->mem_base;

	return copy_to_user(arg, &info32, sizeof(info32)) ? -EFAULT : 0;
}

/* NULL where the user gives none. */
static char *get_name(const struct cmamem_info *info)
{
	const char __user *name = (const char __force __user *)info->name;

	return name ? strndup_user(name, DMA_BUF_NAME_LEN) : NULL;
}

static struct cmem_region *alloc_region(const struct cmamem_info *info)
{
	struct cmem_region *region;
	char *name;
	int ret;

	name = get_name(info);
	if (IS_ERR(name))
		return ERR_CAST(name);
	region = kzalloc(sizeof(*region), GFP_KERNEL);
	if (!region) {
		ret = -ENOMEM;
		goto free_name;
	}
	region->buffer = dmabuf_buffer_alloc(&cmem_heap, info->len, info->is_cache);
	if (IS_ERR(region->buffer)) {
		ret = PTR_ERR(region->buffer);
		goto free_region;
	}
	dmabuf_buffer_set_name(region->buffer, name);

	return region;

free_region:
	kfree(region);
free_name:
	kfree(name);
	return ERR_PTR(ret);
}

static long cmem_allocate(struct cmem_regions *regions, void __user *arg)
{
	struct cmem_region *region;
	struct cmamem_info info;
	int ret;

	ret = get_info(&info, arg);
	if (ret)
		return ret;
	region = alloc_region(&info);
	if (IS_ERR(region))
		return PTR_ERR(region);
	ret = cmem_regions_add(regions, region);
	if (ret) {
		dmabuf_buffer_put(region->buffer);
		kfree(region);
		return ret;
	}

	info.id = region->id;
	info.offset = region->start << PAGE_SHIFT;
	info.phy_base = capable(CAP_SYS_RAWIO) ? dmabuf_buffer_phys(region->buffer) : 0;
	info.mem_base = 0;
	ret = put_info(arg, &info);
	if (ret) {
		cmem_regions_remove(regions, region);
		return ret;
	}
	cmem_regions_publish(regions, region);

	return 0;
}

static long cmem_ioc_alloc(struct cmem_alloc __user *arg)
{
	struct dmabuf_buffer *buffer;
	struct cmem_alloc data;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;
	if (data.flags & ~CMEM_FLAG_CACHED || data.reserved)
		return -EINVAL;

	buffer = dmabuf_buffer_alloc(&cmem_heap, data.len, data.flags & CMEM_FLAG_CACHED);

	return dmabuf_reply(dmabuf_buffer_hand_over(buffer, O_RDWR), O_CLOEXEC, arg, &data,
			    sizeof(data), &data.fd);
}

static struct dma_buf *export_region(struct cmem_regions *regions, const struct cmem_export *data)
{
	struct dmabuf_buffer *buffer = cmem_regions_find_id(regions, data->id);

	return dmabuf_buffer_hand_over(buffer ?: ERR_PTR(-EINVAL), data->fd_flags & O_ACCMODE);
}

static long cmem_ioc_export(struct cmem_regions *regions, struct cmem_export __user *arg)
{
	struct cmem_export data;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;
	if (!dmabuf_valid_fd_flags(data.fd_flags) || data.reserved)
		return -EINVAL;

	return dmabuf_reply(export_region(regions, &data), data.fd_flags & O_CLOEXEC, arg,
			    &data, sizeof(data), &data.fd);
}

static long cmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct cmem_regions *regions = file->private_data;

	switch (cmd) {
	case CMEM_ALLOCATE:
		return cmem_allocate(regions, (void __user *)arg);
	case CMEM_IOC_ALLOC:
		return cmem_ioc_alloc((struct cmem_alloc __user *)arg);
	case CMEM_IOC_EXPORT:
		return cmem_ioc_export(regions, (struct cmem_export __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int cmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct cmem_regions *regions = file->private_data;
	struct dmabuf_buffer *buffer;
	unsigned long start;
	int ret;

	buffer = cmem_regions_find_page(regions, vma->vm_pgoff, &start);
	if (!buffer)
		return -EINVAL;
	ret = dmabuf_buffer_mmap(buffer, vma, vma->vm_pgoff - start);
	/* The mapping has its own reference. */
	dmabuf_buffer_put(buffer);

	return ret;
}

static int cmem_open(struct inode *inode, struct file *file)
{
	struct cmem_regions *regions;

	regions = kmalloc(sizeof(*regions), GFP_KERNEL);
	if (!regions)
		return -ENOMEM;
	cmem_regions_init(regions);
	file->private_data = regions;

	return 0;
}

static int cmem_release(struct inode *inode, struct file *file)
{
	struct cmem_regions *regions = file->private_data;

	cmem_regions_destroy(regions);
	kfree(regions);

	return 0;
}

static const struct file_operations cmem_fops = {
	.owner = THIS_MODULE,
	.open = cmem_open,
	.unlocked_ioctl = cmem_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = cmem_mmap,
	.release = cmem_release,
};

static int __init cmem_init(void)
{
	dmabuf_device_init(&cmem_device);
	dmabuf_heap_add(&cmem_device, &cmem_heap);

	return dmabuf_device_register(&cmem_device);
}

static void __exit cmem_exit(void)
{
	dmabuf_device_unregister(&cmem_device);
}

module_init(cmem_init);
module_exit(cmem_exit);

MODULE_DESCRIPTION("/dev/cma_mem: contiguous memory, mapped and as dma-bufs");
MODULE_LICENSE("GPL");
COMPAT_IMPORT_NS(DMA_BUF);
COMPAT_IMPORT_NS(DMABUF_CORE);
