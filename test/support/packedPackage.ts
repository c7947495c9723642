import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const REPOSITORY = path.join(import.meta.dirname, '../..');

interface LockedPackage {
  dev?: boolean;
  devOptional?: boolean;
}

interface Lock {
  packages: Record<string, LockedPackage>;
}

export interface PackedPackage {
  tarball: string;
  /** Of every file in it, from the package's folder. */
  files: string[];
  unpackedBytes: number;
}

/** The package as it would be published, built if it is not. */
export function packInto(dir: string): PackedPackage {
  run('node', ['scripts/build.js', '--if-changed'], REPOSITORY);
  // Its script would build it again.
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', dir];
  const packed = JSON.parse(run('npm', args, REPOSITORY));
  const [{ filename, files, unpackedSize }] = Array.isArray(packed)
    ? packed
    : Object.values(packed);
  return {
    tarball: path.join(dir, filename),
    files: (files as { path: string }[]).map((file) => file.path),
    unpackedBytes: unpackedSize,
  };
}

/**
 * Installs the tarball in a project, as npm does for a user of the package: what it does not depend on
 * is not there. The versions are those of this repository's lock file, whose packages lie there as
 * if an earlier version had been installed, so that npm unpacks this one alone, and asks no registry.
 */
export function installPacked({ tarball }: PackedPackage, dir: string): void {
  mkdirSync(dir, { recursive: true });
  const dependencies = { microdollar: `file:${path.relative(dir, tarball)}` };
  const project = { name: 'consumer', version: '1.0.0', private: true, type: 'module' };
  writeJson(path.join(dir, 'package.json'), { ...project, dependencies });
  const manifest = readJson<Record<string, unknown>>(path.join(REPOSITORY, 'package.json'));
  const { packages } = readJson<Lock>(path.join(REPOSITORY, 'package-lock.json'));
  const { devDependencies: _, scripts: __, ...published } = manifest;
  const used = Object.entries(packages).filter(
    ([name, entry]) => name !== '' && !entry.dev && !entry.devOptional,
  );
  writeJson(path.join(dir, 'package-lock.json'), {
    name: 'consumer',
    lockfileVersion: 3,
    requires: true,
    packages: {
      '': { name: 'consumer', version: '1.0.0', dependencies },
      'node_modules/microdollar': { ...published, resolved: dependencies.microdollar },
      ...Object.fromEntries(used),
    },
  });
  for (const [name] of used) {
    const installed = path.join(REPOSITORY, name);
    if (existsSync(installed)) copyInto(path.join(dir, name), installed);
  }
  run('npm', ['install', '--prefer-offline', '--engine-strict', '--no-audit', '--no-fund'], dir);
}

/** Adds packages of this repository to a project. */
export function addInstalled(dir: string, names: readonly string[]): void {
  for (const name of names) {
    symlinkSync(path.join(REPOSITORY, 'node_modules', name), path.join(dir, 'node_modules', name));
  }
}

export function copyInto(dir: string, from: string): void {
  cpSync(from, dir, { recursive: true });
}

function run(command: string, args: readonly string[], cwd: string): string {
  return execFileSync(command, args, { cwd, encoding: 'utf8' });
}

function readJson<Content>(file: string): Content {
  return JSON.parse(readFileSync(file, 'utf8')) as Content;
}

function writeJson(file: string, content: unknown): void {
  writeFileSync(file, `${JSON.stringify(content, null, 2)}\n`);
}
