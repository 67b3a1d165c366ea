// SPDX-License-Identifier: GPL-2.0-only
/*
 * splat: makes the kernel report what `how=` names, for tests of whatever
 * watches for such reports. What the kernel survives leaves the module loaded;
 * it can be removed then.
 */
#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/scatterlist.h>
#include <linux/string.h>

static char *how = "";
module_param(how, charp, 0444);
MODULE_PARM_DESC(how, "Report to provoke: warn, warn_once, bug, oops, panic, thread, refcount or list");

static void splat_warn(void)
{
	WARN(1, "splat: a warning asked for\n");
}

static void splat_warn_once(void)
{
	WARN_ON_ONCE(1);
}

/* BUG_ON() of the kernel's own: a page pointer must be aligned. */
static void splat_bug(void)
{
	struct scatterlist sg;

	sg_init_table(&sg, 1);
	sg_set_page(&sg, (struct page *)1, PAGE_SIZE, 0);
}

/* Through a pointer the compiler cannot see to be NULL. */
static void write_to_null(void)
{
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	WRITE_ONCE(*nowhere, 1);
}

static void splat_panic(void)
{
	panic("splat: a panic asked for");
}

static int fault_in_thread(void *unused)
{
	write_to_null();
	return 0;
}

static void splat_thread(void)
{
	kthread_run(fault_in_thread, NULL, KBUILD_MODNAME);
}

static void splat_refcount(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_dec(&count);
}

/*
 * Reported where the kernel has CONFIG_DEBUG_LIST, as a warning or, with
 * CONFIG_BUG_ON_DATA_CORRUPTION, as a BUG.
 */
static void splat_list(void)
{
	LIST_HEAD(head);
	LIST_HEAD(other);
	LIST_HEAD(entry);

	head.next = &other;
	list_add(&entry, &head);
}

static const struct {
	const char *name;
	void (*provoke)(void);
} splats[] = {
	{ "warn", splat_warn },
	{ "warn_once", splat_warn_once },
	{ "bug", splat_bug },
	{ "oops", write_to_null },
	{ "panic", splat_panic },
	{ "thread", splat_thread },
	{ "refcount", splat_refcount },
	{ "list", splat_list },
};

static int __init splat_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(splats); i++) {
		if (!strcmp(how, splats[i].name)) {
			splats[i].provoke();
			return 0;
		}
	}
	pr_err("how=%s is none of the reports modinfo lists\n", how);

	return -EINVAL;
}

static void __exit splat_exit(void)
{
}

module_init(splat_init);
module_exit(splat_exit);

MODULE_DESCRIPTION("Provokes a kernel report, for tests");
MODULE_LICENSE("GPL");
