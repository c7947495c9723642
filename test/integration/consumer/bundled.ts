/** A program that is bundled with the parts of the package that need no files: schema and SDK. */
import { drizzle } from 'drizzle-orm/node-postgres';
import { createLedger } from 'microdollar';
import { kilocodeUsers } from 'microdollar/schema';
import { meteredFetch, type UsageEvent } from 'microdollar/sdk';
import { CHAT_ANSWER } from './chatAnswer.js';

const databaseUrl = process.env.DATABASE_URL ?? '';

async function main(): Promise<void> {
  const recorded: UsageEvent[] = [];
  const target = {
    async recordUsage(event: UsageEvent) {
      recorded.push(event);
      const created_at = new Date().toISOString();
      return { id: 'x', created_at, status: 'recorded' as const, new_microdollars_used: 0 };
    },
  };
  const fetch = meteredFetch(target, {
    kilo_user_id: 'ada',
    fetch: async () => Response.json(CHAT_ANSWER),
  });
  const body = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] });
  await fetch('https://api.openai.com/v1/chat/completions', { method: 'POST', body });

  const db = drizzle(databaseUrl);
  const users = await db.select({ id: kilocodeUsers.id }).from(kilocodeUsers);
  await db.$client.end();
  const refused = await createLedger({ databaseUrl }).then(
    () => 'not at all',
    (error: Error) => error.message,
  );
  const costs = recorded.map(({ cost }) => cost);
  console.log(JSON.stringify({ costs, users: users.map(({ id }) => id), refused }));
}

main();
