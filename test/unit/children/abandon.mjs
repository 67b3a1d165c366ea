// SPDX-License-Identifier: MIT
// Listens at argv[2], says so, and is killed: what it leaves there is stale.
import { FdSocket } from 'dmabuf';

FdSocket.listen(process.argv[2], { type: process.argv[3] });
process.stdout.write('listening\n');
setInterval(() => {}, 1000);
