/* SPDX-License-Identifier: GPL-2.0-only */
/* Clients of the handle interface. */
#ifndef _ION_CLIENT_H
#define _ION_CLIENT_H

#include <linux/fs.h>
#include <linux/types.h>

#include "dmabuf_core.h"

struct ion_client;

struct ion_client *ion_client_create(struct dmabuf_account *account);
void ion_client_destroy(struct ion_client *client);
struct dmabuf_account *ion_client_account(const struct ion_client *client);
bool ion_clients_full(void);
int ion_client_give(struct ion_client *client, struct dmabuf_buffer *buffer, fmode_t mode);
int ion_client_take(struct ion_client *client, int id, const struct dmabuf_buffer *buffer);
struct dmabuf_buffer *ion_client_find(struct ion_client *client, int id, fmode_t *mode);
void ion_clients_show(struct dmabuf_device *device);

#endif /* _ION_CLIENT_H */
