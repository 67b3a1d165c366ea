// SPDX-License-Identifier: MIT
import { fuzz } from '../fuzz.ts';

describe('the library', () => fuzz(20_000));
