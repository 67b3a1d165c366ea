// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/dma_heap/system and /dev/dma_heap/reserved, for kernels that are built
 * without dma-heaps of their own: programs, udev rules and libraries written
 * for these work there, too.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <uapi/linux/dma-heap.h>

#include "compat.h"
#include "ion.h"

static char *dma_heap_nodes = "auto";
module_param(dma_heap_nodes, charp, 0444);
MODULE_PARM_DESC(dma_heap_nodes,
		 "auto: /dev/dma_heap/system and /dev/dma_heap/reserved where the kernel is built without dma-heaps, off: never (default: auto)");

/* By minor number. */
static struct dmabuf_heap nodes[] = {
	{
		.name = "system",
		.exp_name = "system",
		.hidden = true,
		.backing = DMABUF_SCATTERED,
	}, {
		.name = "reserved",
		.exp_name = "reserved",
		.hidden = true,
		.backing = DMABUF_CONTIGUOUS,
	},
};

static bool enabled;
static struct cdev cdev;
static dev_t first;

static long dma_heap_alloc(struct dmabuf_heap *heap, struct dmabuf_account *account,
			   void __user *arg, size_t size)
{
	struct dma_heap_allocation_data data = { };
	struct dmabuf_buffer *buffer;

	/* Without a place for the descriptor nobody would get to know it. */
	if (size < offsetofend(struct dma_heap_allocation_data, fd))
		return -EINVAL;
	size = min(size, sizeof(data));
	if (copy_from_user(&data, arg, size))
		return -EFAULT;
	if (data.fd || data.heap_flags || !dmabuf_valid_fd_flags(data.fd_flags))
		return -EINVAL;

	buffer = dmabuf_buffer_alloc(heap, account, data.len, true);

	return dmabuf_reply(dmabuf_buffer_hand_over(buffer, data.fd_flags & O_ACCMODE),
			    data.fd_flags & O_CLOEXEC, arg, &data, size, (int *)&data.fd);
}

static struct dmabuf_heap *node_of(const struct inode *inode)
{
	return &nodes[iminor(inode) - MINOR(first)];
}

/* As the kernel's own: the size of the argument is the program's business. */
static long dma_heap_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (_IOC_NR(cmd) != _IOC_NR(DMA_HEAP_IOCTL_ALLOC))
		return -EINVAL;
	if (_IOC_TYPE(cmd) != DMA_HEAP_IOC_MAGIC)
		return -ENOTTY;
	if (_IOC_DIR(cmd) != (_IOC_READ | _IOC_WRITE))
		return -EINVAL;

	return dma_heap_alloc(node_of(file_inode(file)), file->private_data, (void __user *)arg,
			      _IOC_SIZE(cmd));
}

/*
 * Until the whole module is there nobody gets in: it may still fail to load,
 * and would go whoever uses it.
 */
static bool ready;

static int dma_heap_open(struct inode *inode, struct file *file)
{
	struct dmabuf_account *account;

	if (!READ_ONCE(ready))
		return -ENXIO;
	account = dmabuf_account_open(node_of(inode)->device);
	if (IS_ERR(account))
		return PTR_ERR(account);
	file->private_data = account;

	return nonseekable_open(inode, file);
}

static int dma_heap_release(struct inode *inode, struct file *file)
{
	dmabuf_account_close(file->private_data);

	return 0;
}

static const struct file_operations dma_heap_fops = {
	.owner = THIS_MODULE,
	.open = dma_heap_open,
	.unlocked_ioctl = dma_heap_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = dma_heap_release,
};

static char *dma_heap_devnode(COMPAT_DEVNODE_CONST struct device *dev, umode_t *mode)
{
	return kasprintf(GFP_KERNEL, "dma_heap/%s", dev_name(dev));
}

static struct class dma_heap_class = {
	.name = "dma_heap",
	.devnode = dma_heap_devnode,
};

/* Theirs as long as the devices are there. */
static const struct attribute_group *groups[ARRAY_SIZE(nodes)][2] = {
	{ &nodes[0].group },
	{ &nodes[1].group },
};

static void destroy_nodes(unsigned int count)
{
	while (count--)
		device_destroy(&dma_heap_class, first + count);
}

static int create_nodes(void)
{
	struct device *dev;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(nodes); i++) {
		dev = device_create_with_groups(&dma_heap_class, NULL, first + i, NULL, groups[i],
						"%s", nodes[i].name);
		if (IS_ERR(dev)) {
			destroy_nodes(i);
			return PTR_ERR(dev);
		}
	}

	return 0;
}

static int register_nodes(void)
{
	int ret;

	ret = alloc_chrdev_region(&first, 0, ARRAY_SIZE(nodes), "dma_heap");
	if (ret)
		return ret;
	cdev_init(&cdev, &dma_heap_fops);
	cdev.owner = THIS_MODULE;
	ret = cdev_add(&cdev, first, ARRAY_SIZE(nodes));
	if (ret)
		goto free_region;
	ret = class_register(&dma_heap_class);
	if (ret)
		goto del_cdev;
	ret = create_nodes();
	if (ret)
		goto unregister_class;

	return 0;

unregister_class:
	class_unregister(&dma_heap_class);
del_cdev:
	cdev_del(&cdev);
free_region:
	unregister_chrdev_region(first, ARRAY_SIZE(nodes));
	return ret;
}

/**
 * ion_dma_heap_init() - make the nodes, where there is need for them
 * @device:	whose heaps they are; its limit is theirs
 *
 * Return: 0, -EINVAL for a parameter that is neither auto nor off, or another
 * negative errno.
 */
int ion_dma_heap_init(struct dmabuf_device *device)
{
	unsigned int i;
	int ret;

	if (strcmp(dma_heap_nodes, "auto") && strcmp(dma_heap_nodes, "off")) {
		pr_err("dma_heap_nodes=%s is neither auto nor off\n", dma_heap_nodes);
		return -EINVAL;
	}
	if (IS_ENABLED(CONFIG_DMABUF_HEAPS) || !strcmp(dma_heap_nodes, "off"))
		return 0;

	for (i = 0; i < ARRAY_SIZE(nodes); i++)
		dmabuf_heap_add(device, &nodes[i]);
	ret = register_nodes();
	enabled = !ret;

	return ret;
}

/** ion_dma_heap_ready() - let programs open the nodes; loading cannot fail any more */
void ion_dma_heap_ready(void)
{
	WRITE_ONCE(ready, true);
}

/**
 * ion_dma_heap_exit() - undo ion_dma_heap_init()
 */
void ion_dma_heap_exit(void)
{
	if (!enabled)
		return;
	destroy_nodes(ARRAY_SIZE(nodes));
	class_unregister(&dma_heap_class);
	cdev_del(&cdev);
	unregister_chrdev_region(first, ARRAY_SIZE(nodes));
}
