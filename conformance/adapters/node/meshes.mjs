// Meshes in binary glTF 2.0: SPEC.md, Meshes [MSH].

import { describe, expectData, fail, guard, readBytes, utf8 } from './storage.mjs';

const COMPONENTS = { // of glTF: how Buffer reads them, and their width
  5121: ['readUInt8', 1], 5123: ['readUInt16LE', 2], 5125: ['readUInt32LE', 4], 5126: ['readFloatLE', 4],
};

export function readMesh(place) {
  expectData(place, false);
  return guard('data-invalid', `${place}: no mesh`, () => readTriangles(readGlb(readBytes(place)))); // [MSH-002]
}

/** The two chunks of a binary glTF: the document, and the buffer. */
function readGlb(bytes) {
  const isGlb = bytes.toString('latin1', 0, 4) === 'glTF' && bytes.readUInt32LE(4) === 2;
  if (!isGlb || bytes.readUInt32LE(8) > bytes.length) fail('data-invalid', 'no whole binary glTF 2.0'); // [MSH-002]
  const chunks = {};
  for (let at = 12, size; at < bytes.length; at += 8 + size) {
    size = bytes.readUInt32LE(at);
    chunks[bytes.toString('latin1', at + 4, at + 8)] ??= bytes.subarray(at + 8, at + 8 + size);
  }
  return { ...JSON.parse(utf8(chunks.JSON)), buffer: chunks['BIN\0'] };
}

/** The triangles of all primitives, in the order of the file. [MSH-001] */
function readTriangles(gltf) {
  if (gltf.extensionsRequired?.length || gltf.nodes?.some(isMoved)) fail('data-invalid', 'extensions, or moved nodes');
  const [vertices, faces] = [[], []];
  for (const { attributes, indices, mode = 4 } of (gltf.meshes ?? []).flatMap((mesh) => mesh.primitives)) {
    const before = vertices.length / 3;
    for (const value of readAccessor(gltf, attributes.POSITION, 'VEC3')) vertices.push(value);
    const count = vertices.length / 3 - before;
    const corners = indices === undefined ? [...Array(count).keys()] : readAccessor(gltf, indices, 'SCALAR');
    const isValid = mode === 4 && corners.length % 3 === 0 && corners.every((corner) => corner < count);
    if (!isValid) fail('data-invalid', 'a primitive is not of triangles');
    for (const corner of corners) faces.push(before + corner);
  }
  const array = (elements, name) => describe(Buffer.from(elements.buffer), [elements.length / 3, 3], name);
  return { vertices: array(Float32Array.from(vertices), 'float32'), faces: array(Uint32Array.from(faces), 'uint32') };
}

/** The numbers of an accessor, floats for vectors and unsigned integers for scalars. */
function readAccessor({ accessors, bufferViews, buffers, buffer }, index, type) {
  const { bufferView, byteOffset = 0, componentType, count, ...accessor } = accessors[index];
  const { byteOffset: start = 0, byteLength, byteStride, buffer: number } = bufferViews[bufferView];
  const [read, size] = COMPONENTS[componentType];
  const isKnown = accessor.type === type && (read === 'readFloatLE') === (type === 'VEC3') && !accessor.sparse;
  if (!isKnown || number !== 0 || 'uri' in buffers[0]) fail('data-invalid', `accessor ${index}`);
  const bytes = buffer.subarray(start, start + byteLength);
  const width = type === 'VEC3' ? 3 : 1;
  const place = (at) => byteOffset + Math.floor(at / width) * (byteStride ?? size * width) + (at % width) * size;
  return Array.from({ length: count * width }, (_, at) => bytes[read](place(at)));
}

const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

/** Whether a node has another transformation than the identity. */
function isMoved({ matrix = IDENTITY, translation = [0, 0, 0], rotation = [0, 0, 0, 1], scale = [1, 1, 1] }) {
  return `${[matrix, translation, rotation, scale]}` !== `${[IDENTITY, [0, 0, 0], [0, 0, 0, 1], [1, 1, 1]]}`;
}
