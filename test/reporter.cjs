// SPDX-License-Identifier: MIT
// Mocha's own report for people, and the counts and failures as JSON where DMABUF_TEST_RESULT names a file.
'use strict';
const { writeFileSync } = require('node:fs');
const { reporters } = require('mocha');

module.exports = class extends reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    const file = process.env.DMABUF_TEST_RESULT;
    if (file === undefined) return;
    const failed = [];
    runner.on('fail', (test, error) =>
      failed.push({
        title: test.fullTitle(),
        message: String(error.message ?? error),
        // A hook runs with the tests it is for.
        grep: test.type === 'hook' ? test.parent.fullTitle() : test.fullTitle(),
      }),
    );
    runner.once('end', () => {
      const { passes, failures, pending } = this.stats;
      writeFileSync(file, JSON.stringify({ passed: passes, failed: failures, skipped: pending, failures: failed }));
    });
  }
};
