// SPDX-License-Identifier: GPL-2.0-only
/*
 * dmabuf_core: the buffers behind exporter, ion_lite and cma_mem. This file
 * owns the device in whose name memory is allocated and caches are cleaned.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/module.h>

#include "compat.h"
#include "core.h"

static struct device *dma_device;

/* Apart from the coherent mask: see dmabuf_core_init(). */
static u64 streaming_mask;

/**
 * dmabuf_dma_device() - the device contiguous memory is allocated for
 *
 * Return: the device, there as long as the module is loaded.
 */
struct device *dmabuf_dma_device(void)
{
	return dma_device;
}

/*
 * Not one of the misc devices: these can be opened from the moment they are
 * registered, which is before their DMA masks could be set.
 */
static int __init dmabuf_core_init(void)
{
	int ret;

	dma_device = root_device_register(KBUILD_MODNAME);
	if (IS_ERR(dma_device))
		return PTR_ERR(dma_device);

	/*
	 * Contiguous memory lies below 4 GiB, where every device reaches it.
	 * Scattered pages lie anywhere: their caches are cleaned by mapping
	 * them, which must not bounce.
	 */
	dma_device->dma_mask = &streaming_mask;
	ret = dma_set_mask(dma_device, DMA_BIT_MASK(64));
	if (ret)
		goto unregister;
	ret = dma_set_coherent_mask(dma_device, DMA_BIT_MASK(32));
	if (ret)
		goto unregister;

	return 0;

unregister:
	root_device_unregister(dma_device);
	return ret;
}

static void __exit dmabuf_core_exit(void)
{
	root_device_unregister(dma_device);
}

module_init(dmabuf_core_init);
module_exit(dmabuf_core_exit);

MODULE_DESCRIPTION("Buffers shared as dma-bufs, for exporter, ion_lite and cma_mem");
MODULE_LICENSE("GPL");
COMPAT_IMPORT_NS(DMA_BUF);
