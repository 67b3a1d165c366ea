// SPDX-License-Identifier: GPL-2.0-only
/* What an open file has allocated, for the limit that each has. */
#include <linux/err.h>
#include <linux/kref.h>
#include <linux/limits.h>
#include <linux/list.h>
#include <linux/slab.h>

#include "compat.h"
#include "core.h"

/**
 * dmabuf_account_open() - start with no buffer
 * @device:	what is opened
 *
 * Return: the account with one reference, or an ERR_PTR.
 */
struct dmabuf_account *dmabuf_account_open(const struct dmabuf_device *device)
{
	struct dmabuf_account *account;

	account = kzalloc(sizeof(*account), GFP_KERNEL_ACCOUNT);
	if (!account)
		return ERR_PTR(-ENOMEM);
	kref_init(&account->ref);
	account->pool = device->pool;
	INIT_LIST_HEAD(&account->kept);
	account->limit = device->max_bytes_per_file ?: S64_MAX;

	return account;
}
EXPORT_SYMBOL_DMABUF(dmabuf_account_open);

static void free_account(struct kref *ref)
{
	kfree(container_of(ref, struct dmabuf_account, ref));
}

/**
 * dmabuf_account_get() - take a reference
 * @account:	the account
 */
void dmabuf_account_get(struct dmabuf_account *account)
{
	kref_get(&account->ref);
}

/**
 * dmabuf_account_put() - drop a reference
 * @account:	the account
 */
void dmabuf_account_put(struct dmabuf_account *account)
{
	kref_put(&account->ref, free_account);
}

/**
 * dmabuf_account_close() - drop the reference of an open file
 * @account:	its account
 */
void dmabuf_account_close(struct dmabuf_account *account)
{
	dmabuf_kept_close(account);
	dmabuf_account_put(account);
}
EXPORT_SYMBOL_DMABUF(dmabuf_account_close);

/**
 * dmabuf_charge() - count bytes, unless they become too many
 * @bytes:	those that count already
 * @size:	those that are added
 * @limit:	most of them
 *
 * Return: 0 or -ENOMEM.
 */
int dmabuf_charge(atomic64_t *bytes, u64 size, u64 limit)
{
	s64 used = atomic64_read(bytes);

	if (size > limit)
		return -ENOMEM;
	do {
		if (used > limit - size)
			return -ENOMEM;
	} while (!atomic64_try_cmpxchg(bytes, &used, used + size));

	return 0;
}

/**
 * dmabuf_account_charge() - count a buffer that is about to be allocated
 * @account:	who allocates it, or NULL: this module's owner
 * @size:	bytes, whole pages
 *
 * Return: 0, or -ENOMEM where it is more than a file may have.
 */
int dmabuf_account_charge(struct dmabuf_account *account, u64 size)
{
	int ret;

	if (!account)
		return 0;
	ret = dmabuf_charge(&account->bytes, size, account->limit);
	if (!ret)
		dmabuf_account_get(account);

	return ret;
}

/**
 * dmabuf_account_uncharge() - undo dmabuf_account_charge()
 * @account:	who allocated it, or NULL
 * @size:	bytes, whole pages
 */
void dmabuf_account_uncharge(struct dmabuf_account *account, u64 size)
{
	if (!account)
		return;
	atomic64_sub(size, &account->bytes);
	dmabuf_account_put(account);
}
