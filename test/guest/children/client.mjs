// SPDX-License-Identifier: MIT
// A client of the handle interface: has a handle on a buffer of two pages, one on a page, prints the descriptor of
// the first as JSON, and waits for its end.
import { IonClient } from 'dmabuf/ion-handles';

const [page] = process.argv.slice(2).map(Number);
const client = IonClient.open();
const kept = client.share(client.allocSync(2 * page, { mask: 1 << 0 }));
client.allocSync(page, { mask: 1 << 4 });
process.stdout.write(`${JSON.stringify({ fd: kept.fd })}\n`);
process.stdin.resume();
