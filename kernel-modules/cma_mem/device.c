// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/cma_mem: contiguous memory, mapped through the device itself or shared
 * as a dma-buf. What a file allocated belongs to that open file, and others see
 * it only through a dma-buf, or where they connect to the file.
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/dma-buf.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <uapi/dmabuf/cma_mem.h>
#include <uapi/linux/dma-buf.h>

#include "compat.h"
#include "dmabuf_core.h"
#include "heap.h"
#include "regions.h"

static const struct file_operations cmem_fops;

static struct dmabuf_device cmem_device = {
	.misc = {
		.minor = MISC_DYNAMIC_MINOR,
		.name = "cma_mem",
		.fops = &cmem_fops,
	},
	.pool_max = DMABUF_POOL_DEFAULT,
};

module_param_named(max_bytes, cmem_device.max_bytes, ullong, 0444);
MODULE_PARM_DESC(max_bytes, "Most bytes allocated at a time, by all clients (default 0: half of RAM)");

module_param_named(max_bytes_per_file, cmem_device.max_bytes_per_file, ullong, 0444);
MODULE_PARM_DESC(max_bytes_per_file,
		 "Of these, most that one open file may allocate (default 0: all of them)");

module_param_named(pool_max, cmem_device.pool_max, ullong, 0444);
MODULE_PARM_DESC(pool_max,
		 "Most bytes of freed memory kept for new buffers of the same open file, 0: none (default: a sixteenth of RAM)");

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

/* Who only allocates has not asked for the address: no audit record of a refusal. */
static bool may_know_address(void)
{
	return ns_capable_noaudit(&init_user_ns, CAP_SYS_RAWIO);
}

/* With an address only where a buffer is given, and never one of the kernel's. */
static int put_info(void __user *arg, struct cmamem_info *info,
		    const struct dmabuf_buffer *buffer)
{
	struct cmamem_info32 info32;

	info->phy_base = buffer ? dmabuf_buffer_phys(buffer) : 0;
	info->mem_base = 0;
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

static struct cmem_region *alloc_region(struct dmabuf_account *account,
					const struct cmamem_info *info)
{
	struct cmem_region *region;
	char *name;
	int ret;

	name = get_name(info);
	if (IS_ERR(name))
		return ERR_CAST(name);
	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region) {
		ret = -ENOMEM;
		goto free_name;
	}
	region->len = info->len;
	region->buffer = cmem_heap_alloc(account, info->len, info->is_cache);
	if (IS_ERR(region->buffer)) {
		ret = PTR_ERR(region->buffer);
		goto free_region;
	}
	/* Whoever knows the physical address need not map it for a device. */
	ret = dmabuf_buffer_flush(region->buffer, 0, dmabuf_buffer_size(region->buffer),
				  DMABUF_CLEAN);
	if (ret)
		goto put_buffer;
	dmabuf_buffer_set_name(region->buffer, name);

	return region;

put_buffer:
	dmabuf_buffer_put(region->buffer);
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
	/* Once more where the region is added; here it spares the memory. */
	if (cmem_regions_is_view(regions))
		return -EPERM;
	region = alloc_region(regions->account, &info);
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
	ret = put_info(arg, &info, may_know_address() ? region->buffer : NULL);
	if (ret) {
		cmem_regions_remove(regions, region);
		return ret;
	}
	cmem_regions_publish(regions, region);

	return 0;
}

/* The region whose id the user says, with a reference on its buffer. */
static int get_region(struct cmem_regions *regions, const void __user *arg,
		      struct cmamem_info *info, struct cmem_region *region)
{
	int ret = get_info(info, arg);

	return ret ?: cmem_regions_find_id(regions, info->id, region);
}

static long cmem_get_phys(struct cmem_regions *regions, void __user *arg)
{
	struct cmem_region region;
	struct cmamem_info info;
	int ret;

	/* Before the id: whether there is such a region is nobody's business either. */
	if (!capable(CAP_SYS_RAWIO))
		return -EPERM;
	ret = get_region(regions, arg, &info, &region);
	if (ret)
		return ret;
	info.len = region.len;
	ret = put_info(arg, &info, region.buffer);
	dmabuf_buffer_put(region.buffer);

	return ret;
}

/* MAP, which says where it is for mmap(), or GET_SIZE, which says only how long it is. */
static long cmem_describe(struct cmem_regions *regions, void __user *arg, bool with_offset)
{
	struct cmem_region region;
	struct cmamem_info info;
	int ret;

	ret = get_region(regions, arg, &info, &region);
	if (ret)
		return ret;
	dmabuf_buffer_put(region.buffer);
	info.len = region.len;
	if (with_offset)
		info.offset = region.start << PAGE_SHIFT;

	return put_info(arg, &info, NULL);
}

static long cmem_unmap(struct cmem_regions *regions, const void __user *arg)
{
	struct cmamem_info info;
	int ret = get_info(&info, arg);

	return ret ?: cmem_regions_give_up(regions, info.id);
}

static long cmem_connect(struct cmem_regions *regions, const void __user *arg)
{
	struct cmamem_info info;
	struct file *other;
	int ret;

	ret = get_info(&info, arg);
	if (ret)
		return ret;
	other = fget(info.id);
	if (!other)
		return -EBADF;
	if (other->f_op == &cmem_fops)
		ret = cmem_regions_connect(regions, other->private_data);
	else
		ret = -EINVAL;
	fput(other);

	return ret;
}

static u32 clamped(u64 bytes)
{
	return min_t(u64, bytes, U32_MAX);
}

static long cmem_get_total_size(void __user *arg)
{
	u64 total = cmem_heap_total(&cmem_device);
	u64 taken = dmabuf_device_taken(&cmem_device);
	struct cmamem_info info;
	int ret;

	ret = get_info(&info, arg);
	if (ret)
		return ret;
	info.len = clamped(total);
	/* Blocks of the page allocator may be taken where CMA has no room. */
	info.offset = clamped(total - min(total, taken));

	return put_info(arg, &info, NULL);
}

static long cmem_cache_flush(struct cmem_regions *regions, const void __user *arg)
{
	struct cmem_region region;
	struct cmamem_info info;
	size_t size;
	int ret;

	ret = get_region(regions, arg, &info, &region);
	if (ret)
		return ret;
	size = dmabuf_buffer_size(region.buffer);
	ret = -EINVAL;
	if (info.len && info.len <= size && info.offset <= size - info.len)
		ret = dmabuf_buffer_flush(region.buffer, info.offset, info.len,
					  DMABUF_CLEAN | DMABUF_INVALIDATE);
	dmabuf_buffer_put(region.buffer);

	return ret;
}

static long cmem_ioc_alloc(struct dmabuf_account *account, struct cmem_alloc __user *arg)
{
	struct dmabuf_buffer *buffer;
	struct cmem_alloc data;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;
	if (data.flags & ~CMEM_FLAG_CACHED || data.reserved)
		return -EINVAL;

	buffer = cmem_heap_alloc(account, data.len, data.flags & CMEM_FLAG_CACHED);

	return dmabuf_reply(dmabuf_buffer_hand_over(buffer, O_RDWR), O_CLOEXEC, arg, &data,
			    sizeof(data), &data.fd);
}

static struct dma_buf *export_region(struct cmem_regions *regions, const struct cmem_export *data)
{
	struct cmem_region region;
	int ret;

	ret = cmem_regions_find_id(regions, data->id, &region);
	if (ret)
		return ERR_PTR(ret);

	return dmabuf_buffer_hand_over(region.buffer, data->fd_flags & O_ACCMODE);
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
	void __user *user = (void __user *)arg;

	switch (cmd) {
	case CMEM_GET_PHYS:
		return cmem_get_phys(regions, user);
	case CMEM_MAP:
		return cmem_describe(regions, user, true);
	case CMEM_GET_SIZE:
		return cmem_describe(regions, user, false);
	case CMEM_UNMAP:
		return cmem_unmap(regions, user);
	case CMEM_ALLOCATE:
		return cmem_allocate(regions, user);
	case CMEM_CONNECT:
		return cmem_connect(regions, user);
	case CMEM_GET_TOTAL_SIZE:
		return cmem_get_total_size(user);
	case CMEM_CACHE_FLUSH:
		return cmem_cache_flush(regions, user);
	case CMEM_IOC_ALLOC:
		return cmem_ioc_alloc(regions->account, user);
	case CMEM_IOC_EXPORT:
		return cmem_ioc_export(regions, user);
	default:
		return -ENOTTY;
	}
}

/*
 * Through a dma-buf, so that a mapping keeps its own region and no other one: a
 * mapping of this file would keep the file, and with it all it has.
 */
static int cmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct cmem_region region;
	struct dma_buf *dmabuf;
	int ret;

	ret = cmem_regions_find_page(file->private_data, vma->vm_pgoff, &region);
	if (ret)
		return ret;
	dmabuf = dmabuf_buffer_hand_over(region.buffer, file->f_flags & O_ACCMODE);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	ret = dma_buf_mmap(dmabuf, vma, vma->vm_pgoff - region.start);
	/* The mapping has its own reference. */
	dma_buf_put(dmabuf);

	return ret;
}

static int cmem_open(struct inode *inode, struct file *file)
{
	struct dmabuf_account *account;
	struct cmem_regions *regions;

	account = dmabuf_account_open(&cmem_device);
	if (IS_ERR(account))
		return PTR_ERR(account);
	regions = cmem_regions_create(account);
	if (IS_ERR(regions)) {
		dmabuf_account_close(account);
		return PTR_ERR(regions);
	}
	file->private_data = regions;

	return 0;
}

static int cmem_release(struct inode *inode, struct file *file)
{
	cmem_regions_close(file->private_data);

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
	int ret;

	dmabuf_device_init(&cmem_device);
	ret = cmem_heap_init(&cmem_device);
	if (ret)
		return ret;
	ret = dmabuf_device_register(&cmem_device);
	if (ret)
		cmem_heap_exit();

	return ret;
}

static void __exit cmem_exit(void)
{
	dmabuf_device_unregister(&cmem_device);
	cmem_heap_exit();
}

module_init(cmem_init);
module_exit(cmem_exit);

MODULE_DESCRIPTION("/dev/cma_mem: contiguous memory, mapped and as dma-bufs");
MODULE_LICENSE("GPL");
COMPAT_IMPORT_NS(DMA_BUF);
COMPAT_IMPORT_NS(DMABUF_CORE);
