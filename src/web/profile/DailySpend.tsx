import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { FocusableAmount } from '../components/Amount.js';
import { Card } from '../components/Card.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { Segments } from '../components/Segments.js';
import { csvFileName, toCsv } from '../csv.js';
import { type DailySeries, toDailySeries } from '../dailySeries.js';
import { formatDay } from '../days.js';
import { useSession } from '../session.js';
import { ByModel } from './ByModel.js';
import { DayTable } from './DayTable.js';
import { RangePicker } from './RangePicker.js';
import { type DayRange, type Preset, presetRange, rangeProblem } from './range.js';
import { SpendChart } from './SpendChart.js';

interface Organization {
  organization_id: string;
  name: string;
}

type Form = 'chart' | 'table';
const FORMS: readonly { id: Form; text: string }[] = [
  { id: 'chart', text: 'Chart' },
  { id: 'table', text: 'Table' },
];

/** Spend by UTC day in one scope: chart, table, CSV, and one day by model. */
export function DailySpend({
  kiloUserId,
  of,
  today,
  organizations,
}: {
  kiloUserId: string;
  of: { kiloUserId?: string };
  today: string;
  organizations: readonly Organization[];
}) {
  const { api } = useSession();
  const [preset, setPreset] = useState<Preset>('3m');
  const [custom, setCustom] = useState<DayRange>(() => presetRange('3m', today));
  const [organizationId, setOrganizationId] = useState<string | null>(null);
  const [form, setForm] = useState<Form>('chart');
  const [chosenDay, setChosenDay] = useState<string | null>(null);

  const range = preset === 'custom' ? custom : presetRange(preset, today);
  const isAskable = rangeProblem(range) === null;
  const daily = useQuery({
    queryKey: ['usage.daily', kiloUserId, organizationId, range.from, range.until],
    queryFn: async ({ signal }) => ({
      organizationId,
      series: toDailySeries(
        range,
        await api.usage.daily.query({ ...of, ...range, organizationId }, { signal }),
      ),
    }),
    enabled: isAskable,
    placeholderData: keepPreviousData,
  });
  const scopeName =
    organizations.find((each) => each.organization_id === organizationId)?.name ?? 'Personal';
  const series = daily.data?.series;
  const isSwitching = daily.isPlaceholderData;

  function choosePreset(next: Preset) {
    if (next === 'custom') setCustom(range);
    setPreset(next);
    setChosenDay(null);
  }

  return (
    <Card
      title="Daily spend"
      note={series && `${formatDay(series.from)} to ${formatDay(series.until)}, UTC days`}
      tools={
        <>
          {organizations.length > 0 && (
            <label className="scope">
              <span>Scope</span>
              <select
                value={organizationId ?? ''}
                onChange={(event) => {
                  setOrganizationId(event.target.value || null);
                  setChosenDay(null);
                }}
              >
                <option value="">Personal</option>
                {organizations.map(({ organization_id, name }) => (
                  <option key={organization_id} value={organization_id}>
                    {name}
                  </option>
                ))}
              </select>
            </label>
          )}
          <RangePicker
            preset={preset}
            custom={custom}
            onPreset={choosePreset}
            onCustom={setCustom}
          />
        </>
      }
    >
      {daily.error !== null && (
        <ErrorNotice
          failure={toFailure(daily.error)}
          what="Daily spend is not available"
          onRetry={() => daily.refetch()}
        />
      )}
      {series === undefined ? (
        daily.error === null && <Loading what="daily spend" />
      ) : (
        <div className={isSwitching ? 'spend switching' : 'spend'} aria-busy={isSwitching}>
          <div className="spend-head">
            <p className="spend-total">
              <FocusableAmount microdollars={series.totalMicrodollars} />
              <span className="figure-unit">
                total, {series.activeDays} of {series.days.length} days with usage
              </span>
            </p>
            <div className="spend-tools">
              <Segments
                label="Form"
                choices={FORMS}
                chosen={form}
                onChoose={(next) => setForm(next)}
              />
              <Button
                className="button"
                isDisabled={isSwitching}
                onPress={() => download(series, scopeName)}
              >
                Download CSV
              </Button>
            </div>
          </div>
          {series.activeDays === 0 && form === 'chart' ? (
            <Empty title="No spend in this range">
              <p>Choose a longer range or another scope.</p>
            </Empty>
          ) : form === 'chart' ? (
            <SpendChart series={series} chosenDay={chosenDay} onChoose={setChosenDay} />
          ) : (
            <DayTable series={series} chosenDay={chosenDay} onChoose={setChosenDay} />
          )}
        </div>
      )}
      {chosenDay !== null && (
        <ByModel
          kiloUserId={kiloUserId}
          of={of}
          day={chosenDay}
          organizationId={organizationId}
          scopeName={scopeName}
          onClose={() => setChosenDay(null)}
        />
      )}
    </Card>
  );
}

function download(series: DailySeries, scope: string): void {
  const url = URL.createObjectURL(new Blob([toCsv(series, scope)], { type: 'text/csv' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = csvFileName(series);
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
