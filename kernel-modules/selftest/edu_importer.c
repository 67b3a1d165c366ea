// SPDX-License-Identifier: GPL-2.0-only
/*
 * edu_importer: imports dma-bufs for the DMA engine of QEMU's device edu, as
 * tests ask for it (edu_importer.h). The device has a buffer of its own, which
 * only DMA reaches: bytes that went through it were moved by a device.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/jiffies.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "edu_importer.h"

/* QEMU, docs/specs/edu: vendor, device, registers. */
#define EDU_VENDOR	0x1234
#define EDU_DEVICE	0x11e8
#define EDU_ID		0x00
#define EDU_ID_MASK	0xff
#define EDU_ID_VALUE	0xed
#define EDU_SOURCE	0x80
#define EDU_TARGET	0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98
#define EDU_RUN		BIT(0)
#define EDU_TO_MEMORY	BIT(1)
/* Where the device sees its own buffer. QEMU 7.2 ends at a transfer to its last byte. */
#define EDU_BUFFER	0x40000

/* A transfer takes a tenth of a second, or what the machine needs to get there. */
#define PATIENCE_S	30

/**
 * struct importer - a PCI device
 * @ref:	held by the driver and each open file
 * @misc:	its device node
 * @lock:	protects all below and the imports in it, and the device's
 *		registers; taken outside of reservation locks
 * @pdev:	NULL once the device is gone
 * @regs:	its registers
 * @imports:	of all open files
 */
struct importer {
	struct kref ref;
	struct miscdevice misc;

	struct mutex lock;	/* pdev, regs, imports and what is in them */
	struct pci_dev *pdev;
	void __iomem *regs;
	struct list_head imports;
};

/**
 * struct import - an open file
 * @importer:	the device, a reference
 * @node:	in importer.imports
 * @dmabuf:	what was imported, a reference, or NULL
 * @attachment:	of @dmabuf
 * @dynamic:	whether it is that of a dynamic importer
 * @table:	while it is mapped, else NULL
 * @direction:	that it is mapped for
 */
struct import {
	struct importer *importer;
	struct list_head node;
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attachment;
	bool dynamic;
	struct sg_table *table;
	enum dma_data_direction direction;
};

static void importer_free(struct kref *ref)
{
	struct importer *importer = container_of(ref, struct importer, ref);

	kfree(importer->misc.name);
	kfree(importer);
}

static bool is_running(struct importer *importer)
{
	return readl(importer->regs + EDU_COMMAND) & EDU_RUN;
}

/* Where a fatal signal comes first, the device goes on. */
static int wait_killable(struct importer *importer)
{
	unsigned long deadline = jiffies + PATIENCE_S * HZ;

	while (is_running(importer)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, deadline))
			return -ETIMEDOUT;
		schedule_timeout_killable(1);
	}

	return 0;
}

/* Nothing is unmapped that the device may still write to. */
static void quiesce(struct importer *importer)
{
	bool running;

	if (read_poll_timeout(is_running, running, !running, USEC_PER_MSEC,
			      PATIENCE_S * USEC_PER_SEC, false, importer)) {
		dev_err(&importer->pdev->dev, "a transfer does not end\n");
		pci_clear_master(importer->pdev);
	}
}

static int transfer_piece(struct importer *importer, dma_addr_t address, u32 window, u32 length,
			  bool to_memory)
{
	int ret;

	/* Of a file whose process was killed. */
	ret = wait_killable(importer);
	if (ret)
		return ret;
	writel(to_memory ? EDU_BUFFER + window : address, importer->regs + EDU_SOURCE);
	writel(to_memory ? address : EDU_BUFFER + window, importer->regs + EDU_TARGET);
	writel(length, importer->regs + EDU_COUNT);
	writel(EDU_RUN | (to_memory ? EDU_TO_MEMORY : 0), importer->regs + EDU_COMMAND);

	return wait_killable(importer);
}

/* Its buffer is pinned while it is mapped, and does not move then. */
static void ignore_move(struct dma_buf_attachment *attachment)
{
}

static const struct dma_buf_attach_ops attach_ops = {
	COMPAT_MOVE_NOTIFY(ignore_move),
};

static struct sg_table *map_pinned(struct dma_buf_attachment *attachment,
				   enum dma_data_direction direction)
{
	struct dma_resv *resv = attachment->dmabuf->resv;
	struct sg_table *table;
	int ret;

	ret = dma_resv_lock_interruptible(resv, NULL);
	if (ret)
		return ERR_PTR(ret);
	ret = dma_buf_pin(attachment);
	if (ret) {
		table = ERR_PTR(ret);
		goto unlock;
	}
	table = dma_buf_map_attachment(attachment, direction);
	if (IS_ERR(table))
		dma_buf_unpin(attachment);
unlock:
	dma_resv_unlock(resv);

	return table;
}

static void unmap_pinned(struct import *import)
{
	struct dma_resv *resv = import->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	dma_buf_unmap_attachment(import->attachment, import->table, import->direction);
	dma_buf_unpin(import->attachment);
	dma_resv_unlock(resv);
}

static void unmap(struct import *import)
{
	if (!import->table)
		return;
	quiesce(import->importer);
	if (import->dynamic)
		unmap_pinned(import);
	else
		compat_unmap_attachment(import->attachment, import->table, import->direction);
	import->table = NULL;
}

static void let_go(struct import *import)
{
	if (!import->dmabuf)
		return;
	unmap(import);
	dma_buf_detach(import->dmabuf, import->attachment);
	dma_buf_put(import->dmabuf);
	import->dmabuf = NULL;
}

static long import_buffer(struct import *import, const struct edu_import *how)
{
	struct device *dev = &import->importer->pdev->dev;
	struct dma_buf_attachment *attachment;
	struct dma_buf *dmabuf;

	if (how->flags & ~EDU_DYNAMIC)
		return -EINVAL;
	if (import->dmabuf)
		return -EBUSY;
	dmabuf = dma_buf_get(how->fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	import->dynamic = how->flags & EDU_DYNAMIC;
	attachment = import->dynamic ? dma_buf_dynamic_attach(dmabuf, dev, &attach_ops, import) :
				       dma_buf_attach(dmabuf, dev);
	if (IS_ERR(attachment)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(attachment);
	}
	import->attachment = attachment;
	import->dmabuf = dmabuf;

	return 0;
}

static int tell_segments(const struct sg_table *table, struct edu_map *map)
{
	struct edu_segment __user *to = u64_to_user_ptr(map->segments);
	struct edu_segment segment;
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(table, sg, i) {
		if (i >= map->count)
			break;
		segment.address = sg_dma_address(sg);
		segment.length = sg_dma_len(sg);
		if (copy_to_user(to + i, &segment, sizeof(segment)))
			return -EFAULT;
	}
	map->count = table->nents;

	return 0;
}

static bool is_direction(u32 direction)
{
	return direction == DMA_BIDIRECTIONAL || direction == DMA_TO_DEVICE ||
	       direction == DMA_FROM_DEVICE;
}

static long map_buffer(struct import *import, struct edu_map *map)
{
	struct sg_table *table;
	int ret;

	if (!import->dmabuf || !is_direction(map->direction))
		return -EINVAL;
	if (import->table)
		return -EBUSY;
	table = import->dynamic ? map_pinned(import->attachment, map->direction) :
				  compat_map_attachment(import->attachment, map->direction);
	if (IS_ERR(table))
		return PTR_ERR(table);
	import->table = table;
	import->direction = map->direction;
	ret = tell_segments(table, map);
	if (ret)
		unmap(import);

	return ret;
}

static bool is_inside(const struct import *import, u64 offset, u64 length)
{
	size_t size = import->dmabuf->size;

	return length && offset < size && length <= size - offset;
}

static long transfer(struct import *import, const struct edu_transfer *what)
{
	u64 offset = what->offset;
	u32 done = 0;
	struct scatterlist *sg;
	unsigned int i;
	u32 now;
	int ret;

	if (!import->table || !is_inside(import, offset, what->length) ||
	    what->length > EDU_WINDOW)
		return -EINVAL;
	if (what->direction != DMA_TO_DEVICE && what->direction != DMA_FROM_DEVICE)
		return -EINVAL;
	if (import->direction != DMA_BIDIRECTIONAL && import->direction != what->direction)
		return -EINVAL;

	for_each_sgtable_dma_sg(import->table, sg, i) {
		if (offset >= sg_dma_len(sg)) {
			offset -= sg_dma_len(sg);
			continue;
		}
		now = min_t(u64, what->length - done, sg_dma_len(sg) - offset);
		ret = transfer_piece(import->importer, sg_dma_address(sg) + offset, done, now,
				     what->direction == DMA_FROM_DEVICE);
		if (ret)
			return ret;
		done += now;
		if (done == what->length)
			return 0;
		offset = 0;
	}

	/* The exporter mapped less than its buffer. */
	return -EFAULT;
}

static long cpu_access(struct import *import, const struct edu_cpu_access *access)
{
	bool write = access->flags & EDU_CPU_WRITE;
	bool sync = !(access->flags & EDU_CPU_UNSYNCED);
	enum dma_data_direction direction = write ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
	void __user *bytes = u64_to_user_ptr(access->bytes);
	void *vaddr;
	int ret = 0;

	if (access->flags & ~(EDU_CPU_WRITE | EDU_CPU_UNSYNCED) || access->reserved)
		return -EINVAL;
	if (!import->dmabuf || !is_inside(import, access->offset, access->length))
		return -EINVAL;
	vaddr = compat_vmap(import->dmabuf);
	if (IS_ERR(vaddr))
		return PTR_ERR(vaddr);
	if (sync)
		ret = dma_buf_begin_cpu_access(import->dmabuf, direction);
	if (ret)
		goto unmap;
	if (write ? copy_from_user(vaddr + access->offset, bytes, access->length) :
		    copy_to_user(bytes, vaddr + access->offset, access->length))
		ret = -EFAULT;
	if (sync)
		ret = dma_buf_end_cpu_access(import->dmabuf, direction) ?: ret;
unmap:
	compat_vunmap(import->dmabuf, vaddr);

	return ret;
}

static long tell_pages(struct import *import, const struct edu_pages *pages)
{
	u64 __user *frames = u64_to_user_ptr(pages->frames);
	unsigned long count;
	unsigned long i;
	void *vaddr;
	void *page;
	int ret = 0;
	u64 frame;

	if (!import->dmabuf || pages->reserved)
		return -EINVAL;
	count = import->dmabuf->size >> PAGE_SHIFT;
	if (count > pages->count)
		return -EINVAL;
	vaddr = compat_vmap(import->dmabuf);
	if (IS_ERR(vaddr))
		return PTR_ERR(vaddr);
	for (i = 0; i < count && !ret; i++) {
		page = vaddr + (i << PAGE_SHIFT);
		frame = page_to_pfn(is_vmalloc_addr(page) ? vmalloc_to_page(page) :
							    virt_to_page(page));
		if (copy_to_user(frames + i, &frame, sizeof(frame)))
			ret = -EFAULT;
	}
	compat_vunmap(import->dmabuf, vaddr);

	return ret;
}

static long do_ioctl(struct import *import, unsigned int cmd, void __user *argument)
{
	union {
		struct edu_import import;
		struct edu_map map;
		struct edu_transfer transfer;
		struct edu_cpu_access access;
		struct edu_pages pages;
	} in;
	long ret;

	if (_IOC_SIZE(cmd) > sizeof(in))
		return -ENOTTY;
	if (_IOC_DIR(cmd) != _IOC_NONE && copy_from_user(&in, argument, _IOC_SIZE(cmd)))
		return -EFAULT;

	switch (cmd) {
	case EDU_IOC_IMPORT:
		return import_buffer(import, &in.import);
	case EDU_IOC_MAP:
		ret = map_buffer(import, &in.map);
		if (!ret && copy_to_user(argument, &in.map, sizeof(in.map))) {
			unmap(import);
			return -EFAULT;
		}
		return ret;
	case EDU_IOC_UNMAP:
		if (!import->table)
			return -EINVAL;
		unmap(import);
		return 0;
	case EDU_IOC_TRANSFER:
		return transfer(import, &in.transfer);
	case EDU_IOC_CPU_ACCESS:
		return cpu_access(import, &in.access);
	case EDU_IOC_PAGES:
		return tell_pages(import, &in.pages);
	default:
		return -ENOTTY;
	}
}

static long importer_ioctl(struct file *file, unsigned int cmd, unsigned long argument)
{
	struct import *import = file->private_data;
	struct importer *importer = import->importer;
	long ret;

	if (mutex_lock_killable(&importer->lock))
		return -EINTR;
	ret = importer->pdev ? do_ioctl(import, cmd, (void __user *)argument) : -ENODEV;
	mutex_unlock(&importer->lock);

	return ret;
}

/*
 * As drivers of GPUs map what they have imported: some have made it a mapping
 * without pages before they look what it is of. It does not wait for the lock,
 * inside of which others touch user memory.
 */
static int importer_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct import *import = file->private_data;
	int ret = -EINVAL;

	if (!mutex_trylock(&import->importer->lock))
		return -EBUSY;
	compat_vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	if (import->dmabuf)
		ret = dma_buf_mmap(import->dmabuf, vma, vma->vm_pgoff);
	mutex_unlock(&import->importer->lock);

	return ret;
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *importer = container_of(file->private_data, struct importer, misc);
	struct import *import;

	import = kzalloc(sizeof(*import), GFP_KERNEL);
	if (!import)
		return -ENOMEM;
	kref_get(&importer->ref);
	import->importer = importer;
	mutex_lock(&importer->lock);
	list_add(&import->node, &importer->imports);
	mutex_unlock(&importer->lock);
	file->private_data = import;

	return 0;
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct import *import = file->private_data;
	struct importer *importer = import->importer;

	mutex_lock(&importer->lock);
	let_go(import);
	list_del(&import->node);
	mutex_unlock(&importer->lock);
	kref_put(&importer->ref, importer_free);
	kfree(import);

	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.unlocked_ioctl = importer_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = importer_mmap,
};

static int importer_start(struct importer *importer, struct pci_dev *pdev)
{
	int ret;

	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	ret = pci_request_regions(pdev, KBUILD_MODNAME);
	if (ret)
		goto disable;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(32));
	if (ret)
		goto release;
	ret = -ENOMEM;
	importer->regs = pci_iomap(pdev, 0, 0);
	if (!importer->regs)
		goto release;
	ret = -ENODEV;
	if ((readl(importer->regs + EDU_ID) & EDU_ID_MASK) != EDU_ID_VALUE)
		goto unmap;
	pci_set_master(pdev);
	importer->pdev = pdev;

	return 0;

unmap:
	pci_iounmap(pdev, importer->regs);
release:
	pci_release_regions(pdev);
disable:
	pci_disable_device(pdev);
	return ret;
}

/* Open files stay, and have nothing left to use. */
static void importer_stop(struct importer *importer)
{
	struct pci_dev *pdev = importer->pdev;
	struct import *import;

	mutex_lock(&importer->lock);
	list_for_each_entry(import, &importer->imports, node)
		let_go(import);
	importer->pdev = NULL;
	mutex_unlock(&importer->lock);

	pci_clear_master(pdev);
	pci_iounmap(pdev, importer->regs);
	pci_release_regions(pdev);
	pci_disable_device(pdev);
}

static int importer_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct importer *importer;
	int ret;

	importer = kzalloc(sizeof(*importer), GFP_KERNEL);
	if (!importer)
		return -ENOMEM;
	kref_init(&importer->ref);
	mutex_init(&importer->lock);
	INIT_LIST_HEAD(&importer->imports);
	importer->misc.minor = MISC_DYNAMIC_MINOR;
	importer->misc.fops = &importer_fops;
	importer->misc.parent = &pdev->dev;
	importer->misc.name = kasprintf(GFP_KERNEL, KBUILD_MODNAME "-%s", pci_name(pdev));
	ret = -ENOMEM;
	if (!importer->misc.name)
		goto put;
	ret = importer_start(importer, pdev);
	if (ret)
		goto put;
	ret = misc_register(&importer->misc);
	if (ret)
		goto stop;
	pci_set_drvdata(pdev, importer);

	return 0;

stop:
	importer_stop(importer);
put:
	kref_put(&importer->ref, importer_free);
	return ret;
}

static void importer_remove(struct pci_dev *pdev)
{
	struct importer *importer = pci_get_drvdata(pdev);

	misc_deregister(&importer->misc);
	importer_stop(importer);
	kref_put(&importer->ref, importer_free);
}

/* No MODULE_DEVICE_TABLE: nobody but a test is to load this. */
static const struct pci_device_id importer_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR, EDU_DEVICE) },
	{ }
};

static struct pci_driver importer_driver = {
	.name = KBUILD_MODNAME,
	.id_table = importer_ids,
	.probe = importer_probe,
	.remove = importer_remove,
};

module_pci_driver(importer_driver);

COMPAT_IMPORT_NS(DMA_BUF);
MODULE_DESCRIPTION("Imports dma-bufs for the DMA engine of QEMU's edu device, for tests");
MODULE_LICENSE("GPL");
