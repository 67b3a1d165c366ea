// SPDX-License-Identifier: GPL-2.0-only
/* Devices that hand out buffers: their limits and what sysfs says of them. */
#include <linux/device.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sysfs.h>

#include "compat.h"
#include "core.h"

static u64 half_of_ram(void)
{
	return ((u64)totalram_pages() << PAGE_SHIFT) / 2;
}

static u64 limit_of(const struct dmabuf_device *device)
{
	return device->max_bytes ?: half_of_ram();
}

/**
 * dmabuf_device_charge() - count a buffer that is about to be allocated
 * @device:	the device
 * @size:	bytes, whole pages
 *
 * Return: 0, or -ENOMEM where it is more than the device may hand out.
 */
int dmabuf_device_charge(struct dmabuf_device *device, u64 size)
{
	u64 limit = limit_of(device);
	s64 used = atomic64_read(&device->bytes);

	if (size > half_of_ram() || size > limit)
		return -ENOMEM;
	do {
		if (used > limit - size)
			return -ENOMEM;
	} while (!atomic64_try_cmpxchg(&device->bytes, &used, used + size));
	atomic_long_inc(&device->buffers);

	return 0;
}

/**
 * dmabuf_device_uncharge() - undo dmabuf_device_charge()
 * @device:	the device
 * @size:	bytes, whole pages
 */
void dmabuf_device_uncharge(struct dmabuf_device *device, u64 size)
{
	atomic_long_dec(&device->buffers);
	atomic64_sub(size, &device->bytes);
}

static struct dmabuf_device *to_dmabuf_device(struct device *dev)
{
	struct miscdevice *misc = dev_get_drvdata(dev);

	return container_of(misc, struct dmabuf_device, misc);
}

static ssize_t buffers_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%ld\n", atomic_long_read(&to_dmabuf_device(dev)->buffers));
}
static DEVICE_ATTR_RO(buffers);

static ssize_t bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n", (s64)atomic64_read(&to_dmabuf_device(dev)->bytes));
}
static DEVICE_ATTR_RO(bytes);

static ssize_t max_bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", limit_of(to_dmabuf_device(dev)));
}
static DEVICE_ATTR_RO(max_bytes);

static struct attribute *dmabuf_attrs[] = {
	&dev_attr_buffers.attr,
	&dev_attr_bytes.attr,
	&dev_attr_max_bytes.attr,
	NULL
};
ATTRIBUTE_GROUPS(dmabuf);

/**
 * dmabuf_device_register() - make a device visible to user space
 * @device:	the device
 *
 * It can be opened before this returns.
 *
 * Return: 0 or a negative errno.
 */
int dmabuf_device_register(struct dmabuf_device *device)
{
	device->misc.groups = dmabuf_groups;
	return misc_register(&device->misc);
}
EXPORT_SYMBOL_DMABUF(dmabuf_device_register);

/**
 * dmabuf_device_unregister() - undo dmabuf_device_register()
 * @device:	the device
 */
void dmabuf_device_unregister(struct dmabuf_device *device)
{
	misc_deregister(&device->misc);
}
EXPORT_SYMBOL_DMABUF(dmabuf_device_unregister);
