import { LedgerError } from '../../errors.js';

/**
 * A shared library for `LD_PRELOAD` that gives the current user a name, for initdb alone.
 *
 * In a container started with `--user 12345` that user is in no /etc/passwd. The server does not
 * mind; initdb and the single-user mode that it drives ask getpwuid(3) for the name, do nothing
 * with it, and give up without one. glibc's own remedies (nss_wrapper, a line in /etc/passwd,
 * user namespaces) need root or a package of the system, so the one function is answered here:
 *
 *   static struct passwd entry = { name, name, 0, 0, name, name, name };
 *   struct passwd *getpwuid(uid_t uid) { entry.pw_uid = uid; return &entry; }
 *
 * The file is an ELF shared object of 720 bytes: headers, one symbol with its hash table, five
 * relative relocations (the pointers of `entry`) and the code, mapped read-only and executable;
 * behind it `entry`, `name` and the dynamic section, mapped writable.
 */
interface Machine {
  /** e_machine */
  number: number;
  /** R_*_RELATIVE */
  relative: number;
  /** `entry` is `distance` bytes after the first instruction. */
  code(distance: number): Buffer;
}

const MACHINES: Readonly<Record<string, Machine>> = {
  x64: {
    number: 62,
    relative: 8,
    code(distance) {
      // lea rax, [rip + distance - 7]; mov [rax + 16], edi; ret
      const code = Buffer.from('488d0500000000897810c3', 'hex');
      code.writeInt32LE(distance - 7, 3);
      return code;
    },
  },
  arm64: {
    number: 183,
    relative: 1027,
    code(distance) {
      const adr = 0x10000001 + (distance & 3) * 2 ** 29 + (distance >> 2) * 2 ** 5;
      // adr x1, entry; str w0, [x1, 16]; mov x0, x1; ret
      return words(adr, 0xb9001020, 0xaa0103e0, 0xd65f03c0);
    },
  },
};

/** Offsets in the file; a multiple of 8 each. */
const AT = {
  programHeaders: 0x40,
  symbols: 0x120,
  hash: 0x150,
  strings: 0x168,
  relocations: 0x178,
  code: 0x1f0,
  entry: 0x200,
  name: 0x230,
  dynamic: 0x240,
  end: 0x2d0,
} as const;

/** Between where the writable part lies in the file and in memory: the largest page there is. */
const SHIFT = 0x10000;
const STRINGS = '\0getpwuid\0';
/** Of pw_name, pw_passwd, pw_gecos, pw_dir and pw_shell in `struct passwd`. */
const POINTERS = [0, 8, 24, 32, 40] as const;

export function namingLibrary(architecture: string = process.arch): Buffer {
  const machine = MACHINES[architecture];
  if (process.platform !== 'linux' || machine === undefined) {
    throw new LedgerError(
      'unavailable',
      `initdb needs a name for uid ${process.geteuid?.()}: run as a user of this system, ` +
        'or set DATABASE_URL',
    );
  }
  const file = Buffer.alloc(AT.end);
  const put = (at: number, part: Buffer | string) => Buffer.from(part).copy(file, at);
  put(0, elfHeader(machine.number));
  put(AT.programHeaders, programHeaders());
  put(AT.symbols + 24, symbol());
  // One bucket that holds symbol 1; no chains.
  put(AT.hash, words(1, 2, 1, 0, 0));
  put(AT.strings, STRINGS);
  put(AT.relocations, relocations(machine.relative));
  put(AT.code, machine.code(AT.entry + SHIFT - AT.code));
  put(AT.name, 'postgres\0');
  put(AT.dynamic, dynamicSection());
  return file;
}

function elfHeader(machineNumber: number): Buffer {
  const header = Buffer.alloc(64);
  header.write('7f454c46020101', 'hex');
  header.writeUInt16LE(3, 16);
  header.writeUInt16LE(machineNumber, 18);
  header.writeUInt32LE(1, 20);
  header.writeUInt32LE(AT.programHeaders, 32);
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(4, 56);
  return header;
}

function programHeaders(): Buffer {
  const [load, dynamic, stack] = [1, 2, 0x6474e551];
  const [readExecute, readWrite] = [5, 6];
  const written = AT.end - AT.entry;
  return Buffer.concat([
    programHeader(load, readExecute, 0, 0, AT.entry, SHIFT),
    programHeader(load, readWrite, AT.entry, AT.entry + SHIFT, written, SHIFT),
    programHeader(dynamic, readWrite, AT.dynamic, AT.dynamic + SHIFT, AT.end - AT.dynamic, 8),
    programHeader(stack, readWrite, 0, 0, 0, 16),
  ]);
}

function programHeader(
  type: number,
  flags: number,
  offset: number,
  address: number,
  size: number,
  alignment: number,
): Buffer {
  return Buffer.concat([
    words(type, flags),
    longs(offset, address, address, size, size, alignment),
  ]);
}

/** Global function `getpwuid`. */
function symbol(): Buffer {
  const entry = Buffer.alloc(24);
  entry.writeUInt32LE(1, 0);
  entry.writeUInt8(0x12, 4);
  entry.writeUInt16LE(1, 6);
  entry.writeBigUInt64LE(BigInt(AT.code), 8);
  entry.writeBigUInt64LE(16n, 16);
  return entry;
}

function relocations(type: number): Buffer {
  const name = AT.name + SHIFT;
  return Buffer.concat(POINTERS.map((offset) => longs(AT.entry + SHIFT + offset, type, name)));
}

/** Tags of the System V ABI, in pairs with their values. */
function dynamicSection(): Buffer {
  const relocationBytes = 24 * POINTERS.length;
  return Buffer.concat([
    longs(4, AT.hash),
    longs(5, AT.strings, 10, STRINGS.length),
    longs(6, AT.symbols, 11, 24),
    longs(7, AT.relocations, 8, relocationBytes, 9, 24),
    longs(0, 0),
  ]);
}

function words(...values: number[]): Buffer {
  return Buffer.from(Uint32Array.from(values).buffer);
}

function longs(...values: number[]): Buffer {
  return Buffer.from(BigUint64Array.from(values, BigInt).buffer);
}
