// SPDX-License-Identifier: MIT
/** The HDMI cable of vivid, from one of its outputs to the socket of a camera. */
import type { Capture } from 'dmabuf/v4l2';
import { NoCamera } from './open.ts';

/** Up to 6.11 one switch for all sockets, later a menu for each. */
const KEY = /^(loop_video|hdmi_.*_is_connected_to)$/;

/**
 * A cable that stays in. One that was just plugged in may come out by itself: a worker of vivid's reads, without a lock,
 * what a socket is connected to, and where that is what it was before it takes the new one for somebody else's
 * (update_hdmi_ctrls_work_handler, drivers/media/test-drivers/vivid/vivid-core.c, from 6.12 on). Who waits for a picture
 * therefore calls {@link Cable.plug} with each frame.
 */
export class Cable {
  readonly #camera: Capture;
  readonly #output: string;
  readonly #key: string;

  /**
   * @param camera - whose socket it is
   * @param output - as vivid calls it: `HDMI 001-0`
   */
  constructor(camera: Capture, output: string) {
    const key = camera.controls().find((control) => KEY.test(control.key))?.key;
    if (key === undefined) throw new NoCamera(`${camera.path} has no HDMI socket: this wants one of vivid's`);
    this.#camera = camera;
    this.#output = output;
    this.#key = key;
  }

  /**
   * Plugs it in, where it is not.
   *
   * @returns whether it was not: frames up to now do not come from the output
   */
  plug(): boolean {
    const key = this.#key;
    const now = this.#camera.getControl(key);
    if (now === true || String(now).includes(this.#output)) return false;
    const { menu = [] } = this.#camera.controls().find((control) => control.key === key) ?? {};
    const item = menu.find(({ name }) => name?.includes(this.#output));
    if (now === false) this.#camera.setControls({ [key]: true });
    // The menu is without it until the worker has seen that it is out.
    else if (item !== undefined) this.#camera.setControls({ [key]: item.index });
    return true;
  }
}
