// SPDX-License-Identifier: GPL-2.0-only
/* Clients of the handle interface: open files, and the buffers each has. */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/xarray.h>

#include "client.h"
#include "ion.h"

/* So many of one client take 73 MiB on 64-bit: 64 bytes each, and their part of a node of by_id. */
static unsigned long max_handles = 1UL << 20;
module_param(max_handles, ulong, 0444);
MODULE_PARM_DESC(max_handles, "Most handles at a time, of all clients (default: 1048576)");

/* A table's heaps, and those of the dma-heap nodes. */
#define MOST_HEAPS	(ION_MAX_HEAPS + 2)

/**
 * struct ion_share - what a client has of a heap
 * @heap:	the heap, or NULL: of none from here on
 * @handles:	how many handles
 * @bytes:	of their buffers
 */
struct ion_share {
	const struct dmabuf_heap *heap;
	unsigned long handles;
	u64 bytes;
};

/**
 * struct ion_client - an open file
 * @account:	what it has allocated
 * @node:	in clients
 * @pid:	the process that opened it
 * @name:	of that process
 * @lock:	protects @by_id, @by_buffer and what is in them
 * @by_id:	its handles, by what user space calls them
 * @by_buffer:	the same, by the address of their buffer
 * @shares_lock: protects @shares; inside of @lock, and of clients_lock
 * @shares:	what it has of each heap it ever had something of, and an end
 */
struct ion_client {
	struct dmabuf_account *account;
	struct list_head node;
	pid_t pid;
	char name[TASK_COMM_LEN];
	struct mutex lock;	/* by_id, by_buffer */
	struct xarray by_id;
	struct rb_root by_buffer;
	spinlock_t shares_lock;	/* shares */
	struct ion_share shares[MOST_HEAPS + 1];
};

/**
 * struct ion_handle - a client's buffer
 * @node:	in ion_client.by_buffer
 * @buffer:	the buffer, a reference
 * @id:		what user space calls it
 * @count:	how often the client was given it, and has not given it up
 * @mode:	FMODE_READ, FMODE_WRITE or both, as far as it may use it
 */
struct ion_handle {
	struct rb_node node;
	struct dmabuf_buffer *buffer;
	u32 id;
	u64 count;
	fmode_t mode;
};

/* All of them, for debugfs. */
static LIST_HEAD(clients);
static DEFINE_MUTEX(clients_lock);

static atomic_long_t handle_count;

/**
 * ion_client_create() - start with no handle
 * @account:	of the file, there as long as the client
 *
 * Return: the client, or an ERR_PTR.
 */
struct ion_client *ion_client_create(struct dmabuf_account *account)
{
	struct ion_client *client;

	client = kzalloc(sizeof(*client), GFP_KERNEL_ACCOUNT);
	if (!client)
		return ERR_PTR(-ENOMEM);
	client->account = account;
	client->pid = task_tgid_nr(current);
	get_task_comm(client->name, current->group_leader);
	mutex_init(&client->lock);
	xa_init_flags(&client->by_id, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	client->by_buffer = RB_ROOT;
	spin_lock_init(&client->shares_lock);
	mutex_lock(&clients_lock);
	list_add_tail(&client->node, &clients);
	mutex_unlock(&clients_lock);

	return client;
}

static void free_handle(struct ion_handle *handle)
{
	dmabuf_buffer_put(handle->buffer);
	kfree(handle);
	atomic_long_dec(&handle_count);
}

/**
 * ion_client_destroy() - give up all handles
 * @client:	the client, used by nobody any more
 */
void ion_client_destroy(struct ion_client *client)
{
	struct ion_handle *handle;
	unsigned long id;

	mutex_lock(&clients_lock);
	list_del(&client->node);
	mutex_unlock(&clients_lock);

	/* xa_destroy() would free all nodes at once, with interrupts off. */
	xa_for_each(&client->by_id, id, handle) {
		xa_erase(&client->by_id, id);
		free_handle(handle);
		cond_resched();
	}
	xa_destroy(&client->by_id);
	mutex_destroy(&client->lock);
	kfree(client);
}

/**
 * ion_client_account() - what a client's buffers count for
 * @client:	the client
 *
 * Return: the account it was created with.
 */
struct dmabuf_account *ion_client_account(const struct ion_client *client)
{
	return client->account;
}

/*
 * The handle of a buffer, or NULL and where in the tree it would be: @link of
 * @parent.
 */
static struct ion_handle *find_place(struct ion_client *client, const struct dmabuf_buffer *buffer,
				     struct rb_node **parent, struct rb_node ***link)
{
	struct ion_handle *handle;

	*parent = NULL;
	*link = &client->by_buffer.rb_node;
	while (**link) {
		*parent = **link;
		handle = rb_entry(*parent, struct ion_handle, node);
		if (handle->buffer == buffer)
			return handle;
		*link = buffer < handle->buffer ? &(*parent)->rb_left : &(*parent)->rb_right;
	}

	return NULL;
}

static void count_share(struct ion_client *client, const struct dmabuf_buffer *buffer, int sign)
{
	const struct dmabuf_heap *heap = dmabuf_buffer_heap(buffer);
	struct ion_share *share = client->shares;

	spin_lock(&client->shares_lock);
	while (share->heap && share->heap != heap)
		share++;
	share->heap = heap;
	share->handles += sign;
	share->bytes += sign * (s64)dmabuf_buffer_size(buffer);
	spin_unlock(&client->shares_lock);
}

/* A new handle, at @link of @parent, or an ERR_PTR. */
static struct ion_handle *add_handle(struct ion_client *client, struct dmabuf_buffer *buffer,
				     struct rb_node *parent, struct rb_node **link)
{
	struct ion_handle *handle;
	int ret;

	lockdep_assert_held(&client->lock);
	ret = -ENOSPC;
	if (atomic_long_inc_return(&handle_count) > max_handles)
		goto uncount;
	ret = -ENOMEM;
	handle = kzalloc(sizeof(*handle), GFP_KERNEL_ACCOUNT);
	if (!handle)
		goto uncount;
	if (xa_alloc(&client->by_id, &handle->id, handle, xa_limit_31b, GFP_KERNEL))
		goto free;
	dmabuf_buffer_get(buffer);
	handle->buffer = buffer;
	rb_link_node(&handle->node, parent, link);
	rb_insert_color(&handle->node, &client->by_buffer);
	count_share(client, buffer, 1);

	return handle;

free:
	kfree(handle);
uncount:
	atomic_long_dec(&handle_count);
	return ERR_PTR(ret);
}

/**
 * ion_clients_full() - whether there are as many handles as there may be
 *
 * Others come and go meanwhile: it spares a caller work that would be in vain.
 *
 * Return: true if there are.
 */
bool ion_clients_full(void)
{
	return atomic_long_read(&handle_count) >= max_handles;
}

/**
 * ion_client_give() - give a client a buffer
 * @client:	the client
 * @buffer:	the buffer, which it may have already
 * @mode:	FMODE_READ, FMODE_WRITE or both, as far as it may use it
 *
 * Return: its handle, or a negative errno: -ENOMEM, or -ENOSPC where there are as
 * many handles as there may be.
 */
int ion_client_give(struct ion_client *client, struct dmabuf_buffer *buffer, fmode_t mode)
{
	struct ion_handle *handle;
	struct rb_node **link;
	struct rb_node *parent;
	int ret;

	mutex_lock(&client->lock);
	handle = find_place(client, buffer, &parent, &link);
	if (!handle)
		handle = add_handle(client, buffer, parent, link);
	if (IS_ERR(handle)) {
		ret = PTR_ERR(handle);
	} else {
		handle->count++;
		handle->mode |= mode;
		ret = handle->id;
	}
	mutex_unlock(&client->lock);

	return ret;
}

/**
 * ion_client_take() - undo one ion_client_give()
 * @client:	the client
 * @id:		the handle, whatever user space says
 * @buffer:	whose handle it has to be, or NULL for anybody's
 *
 * Return: 0, or -EINVAL where there is no such handle.
 */
int ion_client_take(struct ion_client *client, int id, const struct dmabuf_buffer *buffer)
{
	struct ion_handle *handle;
	bool last;

	mutex_lock(&client->lock);
	handle = xa_load(&client->by_id, id);
	if (!handle || (buffer && handle->buffer != buffer)) {
		mutex_unlock(&client->lock);
		return -EINVAL;
	}
	last = !--handle->count;
	if (last) {
		xa_erase(&client->by_id, id);
		rb_erase(&handle->node, &client->by_buffer);
		count_share(client, handle->buffer, -1);
	}
	mutex_unlock(&client->lock);
	if (last)
		free_handle(handle);

	return 0;
}

/**
 * ion_client_find() - find a buffer by its handle
 * @client:	the client
 * @id:		the handle, whatever user space says
 * @mode:	as far as the client may use it (out), or NULL
 *
 * Return: the buffer with a reference, or an ERR_PTR: -EINVAL where there is no
 * such handle.
 */
struct dmabuf_buffer *ion_client_find(struct ion_client *client, int id, fmode_t *mode)
{
	struct dmabuf_buffer *buffer = ERR_PTR(-EINVAL);
	struct ion_handle *handle;

	mutex_lock(&client->lock);
	handle = xa_load(&client->by_id, id);
	if (handle) {
		buffer = handle->buffer;
		dmabuf_buffer_get(buffer);
		if (mode)
			*mode = handle->mode;
	}
	mutex_unlock(&client->lock);

	return buffer;
}

static void show_client(struct seq_file *seq, struct ion_client *client)
{
	const struct ion_share *share;
	unsigned long handles = 0;
	u64 bytes = 0;

	spin_lock(&client->shares_lock);
	for (share = client->shares; share->heap; share++) {
		handles += share->handles;
		bytes += share->bytes;
	}
	seq_printf(seq, "%7d %7lu %12llu ", client->pid, handles, bytes);
	dmabuf_show_name(seq, client->name);
	seq_putc(seq, '\n');
	for (share = client->shares; share->heap; share++) {
		if (!share->handles)
			continue;
		seq_printf(seq, "%7s %7lu %12llu %s ", "", share->handles, share->bytes,
			   share->heap->name);
		if (share->heap->hidden)
			seq_puts(seq, "-\n");
		else
			seq_printf(seq, "%u\n", share->heap->id);
	}
	spin_unlock(&client->shares_lock);
}

static void *clients_start(struct seq_file *seq, loff_t *pos)
{
	mutex_lock(&clients_lock);

	return seq_list_start_head(&clients, *pos);
}

static void *clients_next(struct seq_file *seq, void *at, loff_t *pos)
{
	return seq_list_next(at, &clients, pos);
}

static void clients_stop(struct seq_file *seq, void *at)
{
	mutex_unlock(&clients_lock);
}

static int clients_show(struct seq_file *seq, void *at)
{
	if (at == &clients)
		seq_printf(seq, "%7s %7s %12s %s\n", "pid", "handles", "bytes", "name");
	else
		show_client(seq, list_entry(at, struct ion_client, node));

	return 0;
}

static const struct seq_operations clients_sops = {
	.start = clients_start,
	.next = clients_next,
	.stop = clients_stop,
	.show = clients_show,
};
DEFINE_SEQ_ATTRIBUTE(clients);

/**
 * ion_clients_show() - list the clients in debugfs
 * @device:	whose clients they are, which is registered; the list goes when
 *		it is unregistered
 */
void ion_clients_show(struct dmabuf_device *device)
{
	debugfs_create_file("clients", 0400, device->debugfs, NULL, &clients_fops);
}
