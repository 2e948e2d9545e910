// Arrays of zarr 2 with chunks that are raw, zlib or gzip: SPEC.md, Layout [LAY].

import path from 'node:path';
import { unzipSync } from 'node:zlib';

import { describe, expectData, fail, guard, readBytes, utf8 } from './storage.mjs';

const product = (sizes) => sizes.reduce((left, right) => left * right, 1);
const isShape = (sizes, least) => Array.isArray(sizes) && sizes.every((n) => Number.isSafeInteger(n) && n >= least);

const DTYPES = { // of zarr: the name in numpy, and typed arrays of that width, little-endian as the machine is
  b1: ['bool', Uint8Array], i1: ['int8', Int8Array], u1: ['uint8', Uint8Array],
  i2: ['int16', Int16Array], u2: ['uint16', Uint16Array], f2: ['float16', Uint16Array],
  i4: ['int32', Int32Array], u4: ['uint32', Uint32Array], f4: ['float32', Float32Array],
  i8: ['int64', BigInt64Array], u8: ['uint64', BigUint64Array], f8: ['float64', Float64Array],
};

/** The array `0` of a zarr 2 store. [TOM-002] [FEA-002] [SEG-003] [OBJ-002] */
export function readArray(store) {
  expectData(store, true);
  const array = path.join(store, '0');
  const metadata = readBytes(path.join(array, '.zarray')) ?? fail('data-missing', `${array} is no array of zarr 2`);
  return guard('data-invalid', array, () => assemble(array, JSON.parse(utf8(metadata)))); // [LAY-008]
}

function assemble(array, { shape, chunks, dtype, compressor, filters, order, fill_value, dimension_separator = '.' }) {
  const refuse = (what) => fail('data-invalid', `${array}: this reader does not read ${what}`); // [LAY-008]
  const [name, Elements] = (/^[<>|]/.test(dtype) && DTYPES[dtype.slice(1)]) || refuse(`the type ${dtype}`);
  if (!['C', 'F'].includes(order)) refuse(`the order ${order}`);
  if (filters?.length) refuse('filters');
  if (compressor && !['zlib', 'gzip'].includes(compressor.id)) refuse(`the compressor ${compressor.id}`);
  if (!isShape(shape, 0) || !isShape(chunks, 1) || shape.length !== chunks.length) refuse('such a shape');
  const elements = new Elements(product(shape)).fill(fillValue(name, fill_value)); // what an absent chunk stands for
  const out = Buffer.from(elements.buffer);
  for (const at of positions(shape.map((size, axis) => Math.ceil(size / chunks[axis])))) {
    const place = path.join(array, at.join(dimension_separator) || '0'); // [LAY-006]
    const stored = readBytes(place);
    if (!stored) continue;
    const chunk = guard('data-invalid', place, () => (compressor ? unzipSync(stored) : stored)); // [LAY-008]
    const { BYTES_PER_ELEMENT: width } = Elements;
    if (chunk.length !== product(chunks) * width) fail('data-invalid', `${place} has the wrong size`); // [LAY-008]
    if (dtype[0] === '>' && width > 1) chunk[`swap${8 * width}`]();
    paste(order === 'F' ? lastAxisLast(chunk, chunks, width) : chunk, chunks, out, shape, at, width);
  }
  return describe(out, shape, name);
}

function fillValue(name, value) {
  const number = Number(value); // null is 0, and the texts NaN, Infinity and -Infinity are numbers
  const isWide = name.endsWith('int64');
  const isLost = isWide ? !Number.isSafeInteger(number) : name === 'float16' && number !== 0;
  if (isLost) fail('data-invalid', `this reader does not fill ${name} with ${value}`);
  return isWide ? BigInt(number) : number;
}

/** A chunk of order F in order C: each element from where it is when the first axis is the fastest. */
function lastAxisLast(chunk, sizes, width) {
  const elements = [...positions(sizes)].map((at) => {
    const from = at.reduceRight((before, index, axis) => before * sizes[axis] + index, 0);
    return chunk.subarray(from * width, (from + 1) * width);
  });
  return Buffer.concat(elements);
}

/** All positions in a grid of these sizes, the last axis the fastest. */
function* positions(sizes, at = []) {
  if (at.length === sizes.length) yield at;
  else for (let next = 0; next < sizes[at.length]; next++) yield* positions(sizes, [...at, next]);
}

/** Copies what of a chunk is within the array; `from` and `to` count what lies before along the axes so far. */
function paste(chunk, chunks, out, shape, at, width, axis = 0, from = 0, to = 0) {
  if (axis === shape.length) return void chunk.copy(out, to * width, from * width, (from + 1) * width);
  const first = at[axis] * chunks[axis];
  const count = Math.min(chunks[axis], shape[axis] - first);
  const [source, target] = [from * chunks[axis], to * shape[axis] + first];
  if (axis === shape.length - 1) chunk.copy(out, target * width, source * width, (source + count) * width);
  else for (let i = 0; i < count; i++) paste(chunk, chunks, out, shape, at, width, axis + 1, source + i, target + i);
}
