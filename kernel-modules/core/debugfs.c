// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables of heaps and buffers, in /sys/kernel/debug/DEVICE/, for root: they
 * tell where in memory carveouts lie.
 */
#include <linux/ctype.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/fs.h>
#include <linux/seq_file.h>

#include "compat.h"
#include "core.h"

static const char * const backings[] = {
	[DMABUF_SCATTERED] = "scattered",
	[DMABUF_CONTIGUOUS] = "contiguous",
	[DMABUF_PAGES] = "pages",
	[DMABUF_CARVEOUT] = "carveout",
};

static void show_heap(struct seq_file *seq, const struct dmabuf_heap *heap)
{
	seq_printf(seq, "%-32s ", heap->name);
	if (heap->hidden)
		seq_puts(seq, "  -");
	else
		seq_printf(seq, "%3u", heap->id);
	seq_printf(seq, " %-10s %7llu %12llu %12llu", backings[heap->backing], heap->buffers,
		   heap->bytes, heap->peak_bytes);
	if (heap->carveout)
		seq_printf(seq, " %12llu %12llu 0x%llx\n", dmabuf_carveout_size(heap->carveout),
			   dmabuf_carveout_largest_free(heap->carveout),
			   (u64)dmabuf_carveout_base(heap->carveout));
	else
		seq_printf(seq, " %12s %12s -\n", "-", "-");
}

static int heaps_show(struct seq_file *seq, void *unused)
{
	struct dmabuf_device *device = seq->private;
	struct dmabuf_heap *heap;

	seq_printf(seq, "%-32s %3s %-10s %7s %12s %12s %12s %12s base\n", "heap", "id",
		   "backing", "buffers", "bytes", "peak_bytes", "size", "largest_free");
	mutex_lock(&device->lock);
	list_for_each_entry(heap, &device->heaps, node)
		show_heap(seq, heap);
	mutex_unlock(&device->lock);

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(heaps);

static void *buffers_start(struct seq_file *seq, loff_t *pos)
{
	struct dmabuf_device *device = seq->private;

	mutex_lock(&device->lock);

	return seq_list_start_head(&device->buffers, *pos);
}

static void *buffers_next(struct seq_file *seq, void *at, loff_t *pos)
{
	struct dmabuf_device *device = seq->private;

	return seq_list_next(at, &device->buffers, pos);
}

static void buffers_stop(struct seq_file *seq, void *at)
{
	struct dmabuf_device *device = seq->private;

	mutex_unlock(&device->lock);
}

/**
 * dmabuf_show_name() - show a name that a user chose
 * @seq:	where
 * @name:	the name, or NULL
 *
 * Nothing in it looks like a column, a line, or no name.
 */
void dmabuf_show_name(struct seq_file *seq, const char *name)
{
	const char *c;

	if (!name || !*name)
		seq_putc(seq, '-');
	else if (!strcmp(name, "-"))
		seq_puts(seq, "\\055");
	else
		for (c = name; *c; c++) {
			if (isascii(*c) && isgraph(*c) && *c != ',' && *c != '\\')
				seq_putc(seq, *c);
			else
				seq_printf(seq, "\\%03o", (unsigned char)*c);
		}
}
EXPORT_SYMBOL_DMABUF(dmabuf_show_name);

static void show_buffer(struct seq_file *seq, struct dmabuf_buffer *buffer)
{
	struct dmabuf_attachment *attachment;
	struct dmabuf_share *share;
	unsigned int count = 0;
	char separator = ' ';

	mutex_lock(&buffer->lock);
	list_for_each_entry(attachment, &buffer->attachments, node)
		count++;
	seq_printf(seq, "%8llu %12zu %-32s %-6s %7d %11u", buffer->id, dmabuf_buffer_size(buffer),
		   buffer->heap->name, buffer->write_combined ? "no" : "yes", buffer->pid, count);
	list_for_each_entry(share, &buffer->shares, node) {
		seq_putc(seq, separator);
		spin_lock(&share->dmabuf->name_lock);
		dmabuf_show_name(seq, share->dmabuf->name);
		spin_unlock(&share->dmabuf->name_lock);
		separator = ',';
	}
	seq_puts(seq, list_empty(&buffer->shares) ? " -\n" : "\n");
	list_for_each_entry(attachment, &buffer->attachments, node)
		seq_printf(seq, "%8s %s %s\n", "", dev_name(attachment->dev),
			   attachment->mapped ? "mapped" : "attached");
	mutex_unlock(&buffer->lock);
}

static int buffers_show(struct seq_file *seq, void *at)
{
	struct dmabuf_device *device = seq->private;

	if (at == &device->buffers)
		seq_printf(seq, "%8s %12s %-32s %-6s %7s %11s %s\n", "buffer", "size", "heap",
			   "cached", "pid", "attachments", "names");
	else
		show_buffer(seq, list_entry(at, struct dmabuf_buffer, node));

	return 0;
}

static const struct seq_operations buffers_sops = {
	.start = buffers_start,
	.next = buffers_next,
	.stop = buffers_stop,
	.show = buffers_show,
};
DEFINE_SEQ_ATTRIBUTE(buffers);

static int pool_show(struct seq_file *seq, void *unused)
{
	struct dmabuf_device *device = seq->private;

	dmabuf_pool_show(device->pool, seq);

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(pool);

/* Whatever is written. */
static ssize_t drain_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	struct dmabuf_device *device = file->private_data;

	dmabuf_pool_drain(device->pool);

	return size;
}

static const struct file_operations drain_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = drain_write,
};

/**
 * dmabuf_debugfs_add() - show a device's heaps and buffers
 * @device:	the device
 */
void dmabuf_debugfs_add(struct dmabuf_device *device)
{
	device->debugfs = debugfs_create_dir(device->misc.name, NULL);
	debugfs_create_file("heaps", 0400, device->debugfs, device, &heaps_fops);
	debugfs_create_file("buffers", 0400, device->debugfs, device, &buffers_fops);
	if (!device->pool)
		return;
	debugfs_create_file("pool", 0400, device->debugfs, device, &pool_fops);
	debugfs_create_file("drain", 0200, device->debugfs, device, &drain_fops);
}

/**
 * dmabuf_debugfs_remove() - undo dmabuf_debugfs_add()
 * @device:	the device
 */
void dmabuf_debugfs_remove(struct dmabuf_device *device)
{
	debugfs_remove_recursive(device->debugfs);
}
