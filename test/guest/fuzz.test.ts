// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { fuzz } from '../fuzz.ts';
import { describeDriver } from './drivers.ts';
import { allCounters, describeModules, eventually, idleCounters } from './support.ts';
import { withVivid } from './v4l2.ts';

describeModules('the library on the devices', () => {
  // Emulation is slow.
  fuzz(300);

  after('has given back every page', () => eventually(() => assert.deepEqual(allCounters(), idleCounters)));
});

describeModules('the library on cameras', () => {
  withVivid(['single', 'multi']);

  fuzz(300);

  after('has given back every page', () => eventually(() => assert.deepEqual(allCounters(), idleCounters)));
});

describeDriver('the library on codecs', 'vicodec', [], () => {
  fuzz(300);

  after('has given back every page', () => eventually(() => assert.deepEqual(allCounters(), idleCounters)));
});
