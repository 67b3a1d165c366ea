// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices that hand out buffers, and their heaps: limits, figures and what
 * sysfs says of them.
 */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "compat.h"
#include "core.h"

static u64 half_of_ram(void)
{
	return (u64)(totalram_pages() / 2) << PAGE_SHIFT;
}

/**
 * dmabuf_device_limit() - what a device hands out at most
 * @device:	the device
 *
 * Return: bytes.
 */
u64 dmabuf_device_limit(const struct dmabuf_device *device)
{
	return device->max_bytes ?: half_of_ram();
}
EXPORT_SYMBOL_DMABUF(dmabuf_device_limit);

/**
 * dmabuf_device_taken() - what a device has handed out
 * @device:	the device
 *
 * Return: bytes, as they count for its limit.
 */
u64 dmabuf_device_taken(const struct dmabuf_device *device)
{
	return atomic64_read(&device->bytes);
}
EXPORT_SYMBOL_DMABUF(dmabuf_device_taken);

/**
 * dmabuf_device_charge() - count a buffer that is about to be allocated
 * @device:	the device
 * @size:	bytes, whole pages
 *
 * Return: 0, or -ENOMEM where it is more than the device may hand out.
 */
int dmabuf_device_charge(struct dmabuf_device *device, u64 size)
{
	int ret;

	if (size > half_of_ram())
		return -ENOMEM;
	ret = dmabuf_charge(&device->bytes, size, dmabuf_device_limit(device));
	if (!ret)
		atomic_long_inc(&device->count);

	return ret;
}

/**
 * dmabuf_device_uncharge() - undo dmabuf_device_charge()
 * @device:	the device
 * @size:	bytes, whole pages
 */
void dmabuf_device_uncharge(struct dmabuf_device *device, u64 size)
{
	atomic_long_dec(&device->count);
	atomic64_sub(size, &device->bytes);
}

/**
 * dmabuf_heap_count() - count a new buffer, and list it
 * @buffer:	the buffer
 */
void dmabuf_heap_count(struct dmabuf_buffer *buffer)
{
	struct dmabuf_heap *heap = buffer->heap;

	mutex_lock(&heap->device->lock);
	list_add_tail(&buffer->node, &heap->device->buffers);
	heap->buffers++;
	heap->bytes += dmabuf_buffer_size(buffer);
	heap->peak_bytes = max(heap->peak_bytes, heap->bytes);
	mutex_unlock(&heap->device->lock);
}

/**
 * dmabuf_heap_uncount() - undo dmabuf_heap_count()
 * @buffer:	the buffer
 */
void dmabuf_heap_uncount(struct dmabuf_buffer *buffer)
{
	struct dmabuf_heap *heap = buffer->heap;

	mutex_lock(&heap->device->lock);
	list_del(&buffer->node);
	heap->buffers--;
	heap->bytes -= dmabuf_buffer_size(buffer);
	mutex_unlock(&heap->device->lock);
}

static struct dmabuf_device *to_dmabuf_device(struct device *dev)
{
	struct miscdevice *misc = dev_get_drvdata(dev);

	return container_of(misc, struct dmabuf_device, misc);
}

static ssize_t buffers_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%ld\n", atomic_long_read(&to_dmabuf_device(dev)->count));
}
static DEVICE_ATTR_RO(buffers);

static ssize_t bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", dmabuf_device_taken(to_dmabuf_device(dev)));
}
static DEVICE_ATTR_RO(bytes);

static ssize_t max_bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", dmabuf_device_limit(to_dmabuf_device(dev)));
}
static DEVICE_ATTR_RO(max_bytes);

static ssize_t max_bytes_per_file_show(struct device *dev, struct device_attribute *attr,
				       char *buf)
{
	return sysfs_emit(buf, "%llu\n", to_dmabuf_device(dev)->max_bytes_per_file);
}
static DEVICE_ATTR_RO(max_bytes_per_file);

static ssize_t pool_bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", dmabuf_pool_bytes(to_dmabuf_device(dev)->pool));
}
static DEVICE_ATTR_RO(pool_bytes);

static struct attribute *dmabuf_attrs[] = {
	&dev_attr_buffers.attr,
	&dev_attr_bytes.attr,
	&dev_attr_max_bytes.attr,
	&dev_attr_max_bytes_per_file.attr,
	&dev_attr_pool_bytes.attr,
	NULL
};

static umode_t is_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	struct dmabuf_device *device = to_dmabuf_device(kobj_to_dev(kobj));

	if (attr == &dev_attr_pool_bytes.attr && !device->pool)
		return 0;
	if (attr == &dev_attr_max_bytes_per_file.attr && !device->max_bytes_per_file)
		return 0;

	return attr->mode;
}

static const struct attribute_group device_group = {
	.is_visible = is_visible,
	.attrs = dmabuf_attrs,
};

static struct dmabuf_heap *to_heap(struct device_attribute *attr)
{
	return container_of(attr, struct dev_ext_attribute, attr)->var;
}

static ssize_t show_figure(struct device_attribute *attr, const u64 *figure, char *buf)
{
	struct mutex *lock = &to_heap(attr)->device->lock;
	u64 value;

	mutex_lock(lock);
	value = *figure;
	mutex_unlock(lock);

	return sysfs_emit(buf, "%llu\n", value);
}

static ssize_t heap_name_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", to_heap(attr)->name);
}

static ssize_t heap_buffers_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return show_figure(attr, &to_heap(attr)->buffers, buf);
}

static ssize_t heap_bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return show_figure(attr, &to_heap(attr)->bytes, buf);
}

static ssize_t heap_peak_bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return show_figure(attr, &to_heap(attr)->peak_bytes, buf);
}

static ssize_t heap_size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", dmabuf_carveout_size(to_heap(attr)->carveout));
}

static ssize_t heap_largest_free_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", dmabuf_carveout_largest_free(to_heap(attr)->carveout));
}

static const struct device_attribute heap_attributes[] = {
	__ATTR(name, 0444, heap_name_show, NULL),
	__ATTR(buffers, 0444, heap_buffers_show, NULL),
	__ATTR(bytes, 0444, heap_bytes_show, NULL),
	__ATTR(peak_bytes, 0444, heap_peak_bytes_show, NULL),
	/* Of carveouts only. */
	__ATTR(size, 0444, heap_size_show, NULL),
	__ATTR(largest_free, 0444, heap_largest_free_show, NULL),
};

static_assert(ARRAY_SIZE(heap_attributes) == DMABUF_HEAP_ATTRIBUTES);

static void fill_group(struct dmabuf_heap *heap)
{
	unsigned int count = ARRAY_SIZE(heap_attributes) - (heap->carveout ? 0 : 2);
	unsigned int i;

	for (i = 0; i < count; i++) {
		heap->attributes[i].attr = heap_attributes[i];
		heap->attributes[i].var = heap;
		sysfs_attr_init(&heap->attributes[i].attr.attr);
		heap->list[i] = &heap->attributes[i].attr.attr;
	}
	heap->group.attrs = heap->list;
	if (!heap->hidden) {
		snprintf(heap->dir, sizeof(heap->dir), "heap%u", heap->id);
		heap->group.name = heap->dir;
	}
}

/**
 * dmabuf_device_init() - make a device ready for heaps
 * @device:	the device, zero but for what its owner sets
 */
void dmabuf_device_init(struct dmabuf_device *device)
{
	if (device->pool_max == DMABUF_POOL_DEFAULT)
		device->pool_max = ((u64)totalram_pages() << PAGE_SHIFT) / 16;
	mutex_init(&device->lock);
	INIT_LIST_HEAD(&device->heaps);
	INIT_LIST_HEAD(&device->buffers);
}
EXPORT_SYMBOL_DMABUF(dmabuf_device_init);

/**
 * dmabuf_heap_add() - let a device allocate from a heap
 * @device:	the device, not registered yet; there as long as any buffer
 * @heap:	the heap, zero but for what its owner sets; there as long as
 *		@device
 *
 * From here on buffers can be allocated from it.
 */
void dmabuf_heap_add(struct dmabuf_device *device, struct dmabuf_heap *heap)
{
	heap->device = device;
	atomic_long_set(&heap->cpu_mappings, heap->secured ? -1 : 0);
	fill_group(heap);
	list_add_tail(&heap->node, &device->heaps);
}
EXPORT_SYMBOL_DMABUF(dmabuf_heap_add);

/**
 * dmabuf_heap_secure() - let the CPU map no buffer of a heap
 * @heap:	the heap; it may be secured already
 *
 * Return: 0, or -EBUSY while there are mappings.
 */
int dmabuf_heap_secure(struct dmabuf_heap *heap)
{
	return atomic_long_cmpxchg(&heap->cpu_mappings, 0, -1) > 0 ? -EBUSY : 0;
}
EXPORT_SYMBOL_DMABUF(dmabuf_heap_secure);

/**
 * dmabuf_heap_unsecure() - let the CPU map the buffers of a heap
 * @heap:	the heap; it may be unsecured already
 */
void dmabuf_heap_unsecure(struct dmabuf_heap *heap)
{
	atomic_long_cmpxchg(&heap->cpu_mappings, -1, 0);
}
EXPORT_SYMBOL_DMABUF(dmabuf_heap_unsecure);

static const struct attribute_group **groups_of(struct dmabuf_device *device)
{
	const struct attribute_group **groups;
	struct dmabuf_heap *heap;
	size_t count = 0;

	list_for_each_entry(heap, &device->heaps, node)
		count++;
	groups = kcalloc(count + 2, sizeof(*groups), GFP_KERNEL);
	if (!groups)
		return NULL;

	count = 0;
	groups[count++] = &device_group;
	list_for_each_entry(heap, &device->heaps, node)
		if (!heap->hidden)
			groups[count++] = &heap->group;

	return groups;
}

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
	struct dmabuf_pool *pool;
	int ret;

	/* Whoever wants freed memory empty at once wants none kept. */
	if (device->pool_max && !device->mem_accounting && !want_init_on_free()) {
		pool = dmabuf_pool_create(device->misc.name, device->pool_max);
		if (IS_ERR(pool))
			return PTR_ERR(pool);
		device->pool = pool;
	}
	device->groups = groups_of(device);
	if (!device->groups) {
		ret = -ENOMEM;
		goto destroy_pool;
	}
	device->misc.groups = device->groups;
	ret = misc_register(&device->misc);
	if (ret)
		goto free_groups;
	dmabuf_debugfs_add(device);

	return 0;

free_groups:
	kfree(device->groups);
destroy_pool:
	dmabuf_pool_destroy(device->pool);
	device->pool = NULL;
	return ret;
}
EXPORT_SYMBOL_DMABUF(dmabuf_device_register);

/**
 * dmabuf_device_unregister() - undo dmabuf_device_register()
 * @device:	the device
 */
void dmabuf_device_unregister(struct dmabuf_device *device)
{
	dmabuf_debugfs_remove(device);
	misc_deregister(&device->misc);
	kfree(device->groups);
	dmabuf_pool_destroy(device->pool);
}
EXPORT_SYMBOL_DMABUF(dmabuf_device_unregister);
