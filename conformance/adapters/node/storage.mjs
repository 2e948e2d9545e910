// Bytes of the local disk, and failures with the codes of SPEC.md.

import { createHash } from 'node:crypto';
import fs from 'node:fs';

export class Failure extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export function fail(code, message) {
  throw new Failure(code, message);
}

/** What the action returns. What it throws becomes a failure with this code, unless it is a failure already. */
export function guard(code, what, action) {
  try {
    return action();
  } catch (error) {
    throw error instanceof Failure ? error : new Failure(code, `${what}: ${error.message}`);
  }
}

/** The bytes of a file, or null where there is nothing. No function here writes to the storage. [LAY-002] */
export function readBytes(place) {
  try {
    return fs.readFileSync(place);
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
    return fail('storage-failed', `${place}: ${error.message}`); // [CSV-022] [LAY-007]
  }
}

/** Where a symbolic link leads, or the place itself. */
export function followLinks(place) {
  try {
    return fs.realpathSync(place);
  } catch {
    return place;
  }
}

export const isAbsoluteUrl = (url) => /^[a-z][a-z0-9+.-]*(:\/\/|::.*:\/\/)/i.test(url); // with a scheme, or a chain

/** Fails unless there is at the place what a row promises there: a file, or the directory of a store. */
export function expectData(place, isStore) {
  if (isAbsoluteUrl(place)) fail('storage-failed', `${place}: this reader reads the local disk only`);
  const found = guard('storage-failed', place, () => fs.statSync(place, { throwIfNoEntry: false }));
  if (!found) fail('data-missing', `${place} does not exist`); // [URL-010]
  if (!found.isDirectory() && !found.isFile()) fail('storage-failed', `${place} is no regular file`); // [SEC-008]
  if (found.isDirectory() !== isStore) fail('data-invalid', `${place} is no ${isStore ? 'directory' : 'file'}`);
}

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
export const utf8 = (bytes) => new TextDecoder('utf-8', { fatal: true }).decode(bytes); // without a mark [MAN-003] [CSV-003]
export const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** What is said of an array: its elements are little-endian, as the machine is. */
export const describe = (bytes, shape, dtype) => ({ shape, dtype, sha256: sha256(bytes) });
