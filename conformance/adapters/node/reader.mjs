// A reader of copick projects as Croissant datasets, written from SPEC.md alone: the profile `read` of version 1.0, in
// plain Node.js 20 with no packages. It is an adapter of the conformance suite, and shows how small a reader can be. A
// line that enforces a clause names it. arrays.mjs and meshes.mjs add the capabilities `volumes` and `meshes`.
//
//     python -m conformance --command "node conformance/adapters/node/reader.mjs"

import path from 'node:path';

import { readArray } from './arrays.mjs';
import { readMesh } from './meshes.mjs';
import {
  Failure, expectData, fail, followLinks, guard, isAbsoluteUrl, isObject, readBytes, sha256, utf8,
} from './storage.mjs';

// ---- The ten tables: their columns, those of the key with a star

const PORTAL = 'portal_object_name portal_session_id portal_annotation_id portal_annotation_file_id';
const SEGMENTATION = '*run *voxel_size *user_id *session_id *name';
const TABLES = Object.entries({
  runs: '*name portal_run_id split',
  voxel_spacings: '*run *voxel_size',
  tomograms: '*run *voxel_size *tomo_type url portal_tomo_type portal_tomogram_id',
  features: '*run *voxel_size *tomo_type *feature_type url',
  picks: `*run *user_id *session_id *object_name voxel_size url sha256 ${PORTAL}`,
  meshes: '*run *user_id *session_id *object_name url sha256',
  segmentations: `${SEGMENTATION} *is_multilabel url ${PORTAL}`,
  instance_segmentations: `${SEGMENTATION} url ${PORTAL}`,
  panoptic_segmentations: `${SEGMENTATION} url ${PORTAL}`,
  objects: '*name url',
});
const COLUMNS = new Map(TABLES.map(([table, columns]) => [table, columns.replaceAll('*', '').split(' ')]));
const KEYS = new Map(TABLES.map(([table, columns]) => [table, columns.match(/(?<=\*)\w+/g)]));
const CELLS = { voxel_size: readNumber, is_multilabel: readBoolean }; // all other columns hold text
const PARENTS = { runs: null, objects: null, tomograms: 'voxel_spacings', features: 'tomograms' }; // all others: runs

const isVector = (value, size) => Array.isArray(value) && value.length === size && value.every(Number.isFinite);
const isMatrix = (value, size) => value?.length === size && value.every((row) => isVector(row, size));

function tryJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// ---- Manifest

function readManifest(place) {
  const found = readPending(place) ?? readBytes(place);
  const bytes = found ?? fail('manifest-missing', `${place} does not exist`); // [MAN-001]
  const manifest = guard('manifest-invalid', place, () => JSON.parse(utf8(bytes))); // [MAN-002] [SEC-007]
  if (!isObject(manifest)) fail('manifest-invalid', `${place} is no JSON object`); // [MAN-002]
  const recordSets = entriesById(manifest, 'recordSet');
  const fileObjects = entriesById(manifest, 'distribution');
  if (!recordSets.has('copick/runs')) fail('not-copick', `${place} has no record set copick/runs`); // [MAN-004]
  for (const table of COLUMNS.keys()) {
    const id = fileId(table);
    const isLacking = recordSets.has(`copick/${table}`) && !fileObjects.has(id);
    if (isLacking) fail('manifest-invalid', `${place} has no file object ${id}`); // [MAN-007]
    const { sha256: checksum = '' } = fileObjects.get(id) ?? {};
    if (typeof checksum !== 'string') fail('manifest-invalid', `the sha256 of ${id} is no string`); // [MAN-011]
  }
  return { fileObjects, baseUrl: readBaseUrl(manifest), config: readConfig(manifest) };
}

/** The manifest of a commit that is made and not finished, if all of its tables are there; else null. [COM-004] */
function readPending(place) {
  const bytes = readBytes(`${followLinks(place)}.pending`);
  const pending = bytes && readChecksums(bytes);
  if (!pending?.has('runs')) return null;
  const before = readChecksums(readBytes(place) ?? Buffer.alloc(0));
  const changed = [...pending].filter(([table, declared]) => declared !== before?.get(table));
  const isComplete = changed.every(([table, declared]) => {
    const found = readTableBytes(path.join(path.dirname(place), `${table}.csv`), declared);
    return found && (declared === undefined || sha256(found) === declared);
  });
  return isComplete ? bytes : null;
}

/** What a manifest declares of tables, by their names; null where it is none. */
function readChecksums(bytes) {
  try {
    const files = entriesById(JSON.parse(utf8(bytes)), 'distribution');
    const tables = [...COLUMNS.keys()].filter((table) => files.has(fileId(table)));
    return new Map(tables.map((table) => [table, files.get(fileId(table)).sha256]));
  } catch {
    return null;
  }
}

const fileId = (table) => `${table.replaceAll('_', '-')}-csv`;

function entriesById(manifest, member) {
  const { [member]: value = [] } = manifest;
  const entries = isObject(value) ? [value] : value; // [MAN-005]
  const isValid = Array.isArray(entries) && entries.every(isObject);
  if (!isValid) fail('manifest-invalid', `${member} is no list of objects`); // [MAN-006]
  return new Map(entries.map((entry) => [entry['@id'], entry]));
}

function readBaseUrl({ 'copick:baseUrl': value }) {
  const found = [value, value?.['@id'], value?.['@value']].find((each) => typeof each === 'string'); // [MAN-010]
  if (value !== undefined && found === undefined) fail('manifest-invalid', 'copick:baseUrl is no string'); // [MAN-011]
  if (/[\0\p{Cs}]/u.test(found ?? '')) fail('manifest-invalid', 'copick:baseUrl is no place'); // [MAN-011]
  return found;
}

const TEXTS = ['name', 'description', 'version', 'user_id', 'session_id'];

function readConfig({ 'copick:config': value = {} }) { // [MAN-014]
  const bare = isObject(value) && '@value' in value ? value['@value'] : value; // [MAN-012]
  const config = typeof bare === 'string' ? tryJson(bare) : bare; // [MAN-012]
  if (!isObject(config)) fail('manifest-invalid', 'copick:config is no object'); // [MAN-013]
  const isText = TEXTS.every((member) => typeof (config[member] ?? '') === 'string');
  if (!isText) fail('manifest-invalid', `one of ${TEXTS} of copick:config is no text`); // [MAN-013]
  return { ...config, pickable_objects: readObjects(config, 'manifest-invalid') };
}

function readObjects({ pickable_objects: objects = [] }, code) {
  const isValid = Array.isArray(objects) && objects.every((each) => typeof each?.name === 'string');
  return isValid ? objects : fail(code, 'pickable_objects is no list of objects with a name'); // [MAN-013]
}

/** The configuration in effect: that of the user over that of the manifest. */
function mergeConfigs(ours, theirs) {
  const values = TEXTS.map((member) => [member, ours[member] ?? theirs[member] ?? null]); // [MAN-016]
  const objects = readObjects(ours, 'config-invalid');
  const others = theirs.pickable_objects.filter(({ name }) => !objects.some((each) => each.name === name));
  return { ...Object.fromEntries(values), pickable_objects: [...objects, ...others] }; // [MAN-017]
}

// ---- Tables

function readTable(table, directory, fileObject) {
  if (!fileObject) return []; // [MAN-008], and where it is there, a record set need not be [MAN-009]
  const place = path.join(directory, `${table}.csv`); // [LAY-001]
  const found = readTableBytes(place, fileObject.sha256);
  const bytes = found ?? fail('table-missing', `${place} does not exist`); // [CSV-006]
  const { sha256: declared = sha256(bytes) } = fileObject;
  if (sha256(bytes) !== declared.toLowerCase()) fail('table-checksum', `${place} is not as declared`); // [CSV-004]
  const text = guard('table-encoding', place, () => utf8(bytes)); // [CSV-013]
  if (text.includes('\0')) fail('table-syntax', `${place} has a NUL byte`); // [CSV-016]
  const [header = [], ...records] = parseCsv(text, place);
  const lacking = KEYS.get(table).filter((column) => !header.includes(column));
  if (lacking.length) fail('table-column', `${place} has no column ${lacking.join()}`); // [CSV-011]
  if (new Set(header).size < header.length) fail('table-column', `${place} names a column twice`); // [CSV-012]
  const rows = records.map((record, at) => readRow(table, header, record, `${place}, record ${at + 1}`));
  const keys = new Set(rows.map((row) => identity(row, KEYS.get(table))));
  if (keys.size < rows.length) fail('table-key-duplicate', `${place} has one key twice`); // [CSV-018]
  return rows;
}

/** The bytes of a table: those with the declared checksum, in its place or staged, or else what is there. [COM-005] */
function readTableBytes(place, declared) {
  const bytes = readBytes(place);
  const isChecksum = typeof declared === 'string' && /^[0-9a-f]{64}$/.test(declared); // what else it is could be a path
  if (!isChecksum || (bytes && sha256(bytes) === declared)) return bytes;
  const staged = readBytes(`${followLinks(place)}.${declared}.pending`);
  return staged && sha256(staged) === declared ? staged : bytes;
}

/** The records, lists of cells. A cell is quoted or plain; after it comes a comma, a line end or the end. */
function parseCsv(text, place) {
  const pattern = /(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n][^,\r\n]*)?)(,|\r?\n|$)/y; // [CSV-001] [CSV-002]
  const records = [];
  let record = [];
  while (pattern.lastIndex < text.length || record.length) {
    const match = pattern.exec(text) ?? fail('table-syntax', `${place}, record ${records.length}: quotes`); // [CSV-015]
    const [, quoted, plain, end] = match;
    record.push(quoted?.replaceAll('""', '"') ?? plain ?? '');
    if (end === ',') continue;
    const isEmptyLine = record.length === 1 && quoted === undefined && plain === undefined;
    if (!isEmptyLine) records.push(record); // [CSV-003]
    record = [];
  }
  return records;
}

/** An object of the columns that the table has in SPEC.md, and no others. [CSV-010] */
function readRow(table, header, record, where) {
  if (record.length !== header.length) fail('table-syntax', `${where} has ${record.length} cells`); // [CSV-014]
  const entries = COLUMNS.get(table).map((column) => {
    const cell = record[header.indexOf(column)] ?? ''; // [CSV-008] [CSV-009]
    if (cell !== '') return [column, CELLS[column]?.(cell, where) ?? cell]; // text as it is [CSV-007]
    if (KEYS.get(table).includes(column)) fail('table-key-empty', `${where} has no ${column}`); // [CSV-017]
    return [column, null]; // [CSV-005]
  });
  return Object.fromEntries(entries);
}

function readNumber(cell, where) {
  const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(cell) ? Number(cell) : NaN; // [CSV-019]
  return Number.isFinite(number) ? number : fail('table-number', `${where}: ${cell}`); // [CSV-020]
}

function readBoolean(cell, where) {
  return ['true', 'false'].includes(cell) ? cell === 'true' : fail('table-boolean', `${where}: ${cell}`); // [CSV-021]
}

/** A voxel size as C's %.3f has it: as toFixed, but ties go to the even neighbour. [Terms] */
function threeDecimals(size) {
  const isTie = Number.isInteger(size * 16) && Math.abs((size * 1000) % 1) === 0.5;
  const text = (isTie ? (2 * Math.round(size * 500)) / 1000 : size).toFixed(3);
  return text === '-0.000' ? '0.000' : text;
}

/** A text that is the same for the same values of these columns. [VOX-002] */
function identity(row, columns) {
  const values = columns.map((column) => row[column]);
  return JSON.stringify(values.map((value) => (typeof value === 'number' ? threeDecimals(value) : value)));
}

// ---- URLs

const withoutScheme = (url) => url.replace(/^(file|local):\/\/(?!.*::)/, ''); // [URL-007]

function resolveUrl(baseUrl, url) {
  if (isAbsoluteUrl(url) || url.startsWith('/')) return withoutScheme(url); // [URL-003]
  const inside = path.posix.normalize(url); // characters as they are [URL-008]
  if (inside.split('/')[0] === '..') fail('url-outside', `${url} climbs out of the base URL`); // [SEC-001]
  return `${baseUrl.replace(/\/+$/, '')}/${inside}`; // [URL-002]
}

// ---- Picks

const IDENTITY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];

function readPicks(place, row) {
  expectData(place, false);
  const text = guard('data-invalid', place, () => utf8(readBytes(place))); // whatever row.sha256 says [PIK-010]
  const lines = text.split('\n').filter((line) => line.trim());
  const isNdjson = place.endsWith('.ndjson') || isObject(tryJson(lines[0])?.location); // [PIK-004]
  const read = isNdjson ? () => readNdjson(lines, row) : () => readCopickJson(JSON.parse(text), row);
  return guard('data-invalid', place, read); // [PIK-009]
}

/** The points, in order, and nothing of the names in the file. [PIK-001] [PIK-003] */
function readCopickJson({ points, voxel_spacing: size }, row) {
  return { points: points.map((each) => readPoint(each, each.transformation_)), voxel_size: size ?? row.voxel_size };
}

function readNdjson(lines, row) {
  const size = row.voxel_size ?? Number(/VoxelSpacing(\d+(\.\d+)?)/.exec(row.url)?.[1]); // [PIK-006]
  if (Number.isNaN(size)) fail('data-invalid', `there is no voxel size for ${row.url}`); // [PIK-007]
  const points = lines.map((line) => JSON.parse(line)).map((each) => readPoint(each, readRotation(each), size));
  return { points, voxel_size: size };
}

function readRotation({ xyz_rotation_matrix: matrix }) {
  return matrix && [...matrix.map((row) => [...row, 0]), [0, 0, 0, 1]]; // [PIK-008]
}

function readPoint({ location: { x, y, z }, score, instance_id }, transform, size = 1) {
  const point = { transform: transform ?? IDENTITY, score: score ?? 1, instance_id: instance_id ?? 0 }; // [PIK-002]
  const isValid = isVector([x, y, z, point.score, point.instance_id], 5) && isMatrix(point.transform, 4);
  if (!isValid) fail('data-invalid', 'a point is malformed'); // [PIK-009]
  return { location: [x * size, y * size, z * size], ...point }; // [PIK-005]
}

// ---- Projects

class Project {
  /** Reads all that there is but the data. */
  constructor({ manifest, base_url: given, config = {} }) {
    const place = withoutScheme(manifest);
    const directory = path.dirname(place);
    const { fileObjects, baseUrl: declared, config: published } = readManifest(place);
    const base = withoutScheme(given ?? declared ?? path.dirname(directory)); // [URL-004] [URL-005] [URL-006]
    this.baseUrl = isAbsoluteUrl(base) ? base : path.resolve(directory, base);
    this.configuration = mergeConfigs(config, published);
    const read = (table) => [table, readTable(table, directory, fileObjects.get(fileId(table)))];
    this.tables = new Map([...COLUMNS.keys()].map(read));
  }

  config() {
    return this.configuration;
  }

  splits() {
    const splits = new Map();
    for (const { name, split } of this.rows({ table: 'runs' })) {
      if (split !== null) splits.set(split, [...(splits.get(split) ?? []), name].sort(byCodePoints)); // [RUN-008]
    }
    return Object.fromEntries(splits);
  }

  rows({ table, run }) {
    const rows = this.tables.get(table) ?? fail('table-unknown', `there is no table ${table}`); // [CSV-023]
    return run === undefined ? rows : rows.filter((row) => run === (row.run ?? row.name));
  }

  run({ name }) {
    return this.rows({ table: 'runs' }).some((row) => row.name === name); // [RUN-001] [RUN-002]
  }

  /** The rows of a kind whose run has a row, or whose voxel spacing or tomogram, if they belong to one. */
  shown(kind) {
    const rows = this.rows({ table: kind });
    const { [kind]: parent = 'runs' } = PARENTS;
    if (!parent) return rows;
    const columns = KEYS.get(parent);
    const parents = new Set(this.shown(parent).map((row) => identity(row, columns)));
    const own = parent === 'runs' ? ['run'] : columns;
    return rows.filter((row) => parents.has(identity(row, own))); // [VOX-001] [TOM-001] [FEA-001] [SEG-001]
  }

  list({ kind, run }) {
    if (kind === 'objects') return this.configuration.pickable_objects.map(({ name }) => ({ name })); // [OBJ-001]
    const rows = this.shown(kind).filter((row) => run === undefined || run === row.run);
    if (run !== undefined) this.expectRun(run);
    return rows.map((row) => Object.fromEntries(KEYS.get(kind).map((column) => [column, row[column]])));
  }

  expectRun(name) {
    if (!this.run({ name })) fail('run-unknown', `there is no run ${name}`);
  }

  find(kind, key) {
    const rows = this.shown(kind);
    const columns = KEYS.get(kind);
    if (columns.includes('run')) this.expectRun(key.run);
    return rows.find((row) => identity(row, columns) === identity(key, columns)); // [SEG-002] [VOX-002]
  }

  locate({ kind, key }) {
    const row = this.find(kind, key) ?? fail('data-missing', `${kind} has no row of ${JSON.stringify(key)}`);
    const url = row.url ?? fail('data-missing', `${kind} has no URL of ${JSON.stringify(key)}`); // [URL-009]
    return resolveUrl(this.baseUrl, url); // [URL-001]
  }

  read({ kind, key }) {
    if (kind === 'objects' && !this.hasDensityMap(key)) return null; // [OBJ-002]
    const place = this.locate({ kind, key });
    if (kind === 'picks') return readPicks(place, this.find(kind, key));
    return kind === 'meshes' ? readMesh(place) : readArray(place);
  }

  hasDensityMap({ name }) {
    const object = this.configuration.pickable_objects.find((each) => each.name === name);
    return Boolean(object?.is_particle && this.find('objects', { name }));
  }
}

const byCodePoints = (left, right) => Buffer.compare(Buffer.from(left), Buffer.from(right));

// ---- The protocol: conformance/PROTOCOL.md

const CAPABILITIES = ['read', 'volumes', 'meshes', 'portal', 'config', 'codes'];
const HELLO = { protocol: 1, spec: '1.0', name: 'reader.mjs', version: '1.0', capabilities: CAPABILITIES };
const QUERIES = ['rows', 'list', 'run', 'locate', 'read', 'config', 'splits'];
const ATTEMPTS = 5; // to read a project to which others write
const opened = new Map(); // by root: the project, and the request that opened it

function answer({ op, root = 'main', ...rest }) {
  if (op === 'hello') return HELLO;
  if (op === 'open' && !('overlay' in rest)) return open(root, rest);
  if (op === 'refresh') return open(root, opened.get(root).request); // [BAT-014]
  if (QUERIES.includes(op)) return opened.get(root).project[op](rest);
  return fail('unsupported', `this reader does not know ${op}`);
}

function open(root, request) {
  opened.set(root, { request, project: readProject(request) }); // only where nothing fails [BAT-015]
  return null;
}

/** Reads a project, and anew where a table does not fit the manifest: somebody may have committed. [COM-008] */
function readProject(request) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return new Project(request);
    } catch (error) {
      const isTorn = ['table-checksum', 'table-missing'].includes(error.code);
      if (!isTorn || attempt === ATTEMPTS) throw error;
    }
  }
}

function respond(line) {
  try {
    return JSON.stringify({ ok: answer(JSON.parse(line)) });
  } catch (error) {
    const isFailure = error instanceof Failure;
    if (!isFailure) console.error(error);
    return JSON.stringify({ error: { code: isFailure ? error.code : null, message: error.message } });
  }
}

/** The lines of a stream, which node:readline would end at U+2028 too. */
async function* readLines(stream) {
  let rest = '';
  for await (const text of stream.setEncoding('utf8')) {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    yield* lines;
  }
}

for await (const line of readLines(process.stdin)) process.stdout.write(`${respond(line)}\n`);
