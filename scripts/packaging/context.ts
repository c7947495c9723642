import { readdirSync } from 'node:fs';
import ignorer from '@balena/dockerignore';

/** What a builder is sent: files by their paths in the project, as `.dockerignore` says. */
export function readContext(project: string, ignored: string): string[] {
  const rules = ignorer.default().add(ignored);
  // Never asked about: nothing is taken of these, and they are large.
  const all = readdirSync(project, { withFileTypes: true })
    .filter(({ name }) => name !== 'node_modules' && name !== '.git')
    .flatMap((entry) =>
      entry.isDirectory() ? filesIn(project, entry.name) : entry.isFile() ? [entry.name] : [],
    );
  return rules.filter(all).sort();
}

function filesIn(project: string, dir: string): string[] {
  return readdirSync(`${project}/${dir}`, { withFileTypes: true }).flatMap((entry) => {
    const name = `${dir}/${entry.name}`;
    return entry.isDirectory() ? filesIn(project, name) : entry.isFile() ? [name] : [];
  });
}
