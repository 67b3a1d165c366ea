// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { fuzz } from '../fuzz.ts';
import { allCounters, describeModules, eventually, idleCounters } from './support.ts';

describeModules('the library on the devices', () => {
  // Emulation is slow.
  fuzz(300);

  after('has given back every page', () => eventually(() => assert.deepEqual(allCounters(), idleCounters)));
});
