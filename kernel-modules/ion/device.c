// SPDX-License-Identifier: GPL-2.0-only
/* /dev/ion: the allocation interface of ION as Linux 4.12 to 5.10 had it, and the one before. */
#include <linux/compat.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "dmabuf_core.h"
#include "ion.h"

static const struct file_operations ion_fops;

static struct dmabuf_device ion_device = {
	.misc = {
		.minor = MISC_DYNAMIC_MINOR,
		.name = "ion",
		.fops = &ion_fops,
	},
	.pool_max = DMABUF_POOL_DEFAULT,
};

module_param_named(max_bytes, ion_device.max_bytes, ullong, 0444);
MODULE_PARM_DESC(max_bytes, "Most bytes allocated at a time, by all clients (default 0: half of RAM)");

module_param_named(max_bytes_per_file, ion_device.max_bytes_per_file, ullong, 0444);
MODULE_PARM_DESC(max_bytes_per_file,
		 "Of these, most that one open file may allocate (default 0: all of them)");

module_param_named(pool_max, ion_device.pool_max, ullong, 0444);
MODULE_PARM_DESC(pool_max,
		 "Most bytes of freed memory kept for new buffers, 0: none (default: a sixteenth of RAM)");

module_param_named(mem_accounting, ion_device.mem_accounting, bool, 0444);
MODULE_PARM_DESC(mem_accounting,
		 "Charge the memory cgroup of whoever allocates, but for CMA and carveouts; without a pool (default: N)");

/**
 * struct ion_file - an open file
 * @account:	what it has allocated
 * @client:	of the handle interface, or NULL
 */
struct ion_file {
	struct dmabuf_account *account;
	struct ion_client *client;
};

static long ion_ioctl_alloc(struct dmabuf_account *account, struct ion_allocation_data __user *arg)
{
	struct ion_allocation_data data;
	struct dmabuf_buffer *buffer;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;
	buffer = ion_heaps_alloc(account, data.len, 0, data.heap_id_mask, data.flags);

	return dmabuf_reply(dmabuf_buffer_hand_over(buffer, O_RDWR), O_CLOEXEC, arg, &data,
			    sizeof(data), (int *)&data.fd);
}

static long ion_ioctl_heap_query(struct ion_heap_query __user *arg)
{
	struct ion_heap_data __user *user_heaps;
	struct ion_heap_query query;
	struct ion_heap_data data;
	unsigned int i;

	if (copy_from_user(&query, arg, sizeof(query)))
		return -EFAULT;
	if (query.reserved0 || query.reserved1 || query.reserved2)
		return -EINVAL;
	if (query.heaps && !query.cnt)
		return -EINVAL;
	/* 64 bit, which a pointer here may not be. */
	if (query.heaps != (uintptr_t)query.heaps)
		return -EFAULT;

	if (query.heaps) {
		user_heaps = u64_to_user_ptr(query.heaps);
		query.cnt = min(query.cnt, ion_heap_count());
		for (i = 0; i < query.cnt; i++) {
			ion_heap_describe(i, &data);
			if (copy_to_user(&user_heaps[i], &data, sizeof(data)))
				return -EFAULT;
		}
	} else {
		query.cnt = ion_heap_count();
	}

	return copy_to_user(arg, &query, sizeof(query)) ? -EFAULT : 0;
}

static long answer(const struct ion_file *ion, unsigned int cmd, void __user *arg, bool narrow)
{
	switch (cmd) {
	case ION_IOC_ALLOC:
		return ion_ioctl_alloc(ion->account, arg);
	case ION_IOC_HEAP_QUERY:
		return ion_ioctl_heap_query(arg);
	case ION_IOC_ABI_VERSION:
		return put_user(ION_ABI_VERSION, (u32 __user *)arg);
	default:
		return ion_legacy_ioctl(&ion_device, ion->client, cmd, arg, narrow);
	}
}

static long ion_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return answer(file->private_data, cmd, (void __user *)arg, false);
}

#ifdef CONFIG_COMPAT
static long ion_compat_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return answer(file->private_data, cmd, compat_ptr(arg), true);
}
#endif

static int ion_open(struct inode *inode, struct file *file)
{
	struct ion_file *ion;
	int ret;

	ion = kzalloc(sizeof(*ion), GFP_KERNEL_ACCOUNT);
	if (!ion)
		return -ENOMEM;
	ion->account = dmabuf_account_open(&ion_device);
	if (IS_ERR(ion->account)) {
		ret = PTR_ERR(ion->account);
		goto free_ion;
	}
	ion->client = ion_legacy_open(ion->account);
	if (IS_ERR(ion->client)) {
		ret = PTR_ERR(ion->client);
		goto close_account;
	}
	file->private_data = ion;

	return 0;

close_account:
	dmabuf_account_close(ion->account);
free_ion:
	kfree(ion);
	return ret;
}

static int ion_release(struct inode *inode, struct file *file)
{
	struct ion_file *ion = file->private_data;

	ion_legacy_release(ion->client);
	dmabuf_account_close(ion->account);
	kfree(ion);

	return 0;
}

static const struct file_operations ion_fops = {
	.owner = THIS_MODULE,
	.open = ion_open,
	.release = ion_release,
	.unlocked_ioctl = ion_ioctl,
#ifdef CONFIG_COMPAT
	.compat_ioctl = ion_compat_ioctl,
#endif
};

static int __init ion_init(void)
{
	int ret;

	dmabuf_device_init(&ion_device);
	ret = ion_heaps_init(&ion_device);
	if (ret)
		return ret;
	ret = ion_dma_heap_init(&ion_device);
	if (ret)
		goto exit_heaps;
	ret = dmabuf_device_register(&ion_device);
	if (ret)
		goto exit_dma_heap;
	ion_dma_heap_ready();
	ion_legacy_show(&ion_device);

	return 0;

exit_dma_heap:
	ion_dma_heap_exit();
exit_heaps:
	ion_heaps_exit();
	return ret;
}

static void __exit ion_exit(void)
{
	dmabuf_device_unregister(&ion_device);
	ion_dma_heap_exit();
	ion_heaps_exit();
}

module_init(ion_init);
module_exit(ion_exit);

MODULE_DESCRIPTION("/dev/ion: buffers from heaps, as dma-bufs");
MODULE_LICENSE("GPL");
COMPAT_IMPORT_NS(DMA_BUF);
COMPAT_IMPORT_NS(DMABUF_CORE);
