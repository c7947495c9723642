import { defineConfig } from 'drizzle-kit';

export default defineConfig({
  dialect: 'postgresql',
  schema: './src/schema/index.ts',
  out: './drizzle',
  migrations: { table: 'microdollar_migrations', schema: 'public' },
  dbCredentials: {
    url: process.env.MICRODOLLAR_MIGRATION_URL ?? process.env.DATABASE_URL ?? '',
  },
});
