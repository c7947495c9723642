import type { Register } from './context.js';
import { migrateDatabase, openServer } from './database.js';

export const registerMigrate: Register = (program, run) => {
  program
    .command('migrate')
    .description('apply migrations; safe from several processes at once')
    .action(() =>
      run(async ({ environment, output }) => {
        const server = await openServer(environment);
        try {
          const { applied } = await migrateDatabase(environment, server.url);
          const text =
            applied.length === 0
              ? 'nothing to apply: the schema is up to date'
              : applied.map((name) => `applied ${name}`).join('\n');
          output.answer({ applied }, text);
          return 0;
        } finally {
          await server.stop();
        }
      }),
    );
};
