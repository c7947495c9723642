import { formatExact } from '../amounts.js';
import type { Outputs } from '../api.js';
import { Name } from '../components/Name.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { formatDay } from '../days.js';

type Job = NonNullable<Outputs['operations']['drift']['job']>;
type Finding = NonNullable<Job['result']>['findings'][number];

/** Findings of a verification, in microdollars: two decimals would hide most of them. */
export function DriftTable({ findings }: { findings: readonly Finding[] }) {
  return (
    <ScrollRegion label="Drift findings">
      <table>
        <thead>
          <tr>
            <th scope="col">Day (UTC)</th>
            <th scope="col">User</th>
            <th scope="col">Kind</th>
            <th scope="col" className="number">
              Reported
            </th>
            <th scope="col" className="number">
              True
            </th>
            <th scope="col" className="number">
              Drift
            </th>
            <th scope="col">Likely cause</th>
          </tr>
        </thead>
        <tbody>
          {findings.map((finding) => (
            <tr key={`${finding.period} ${finding.kiloUserId} ${finding.organizationId}`}>
              <td className="time">{formatDay(finding.period)}</td>
              <th scope="row">
                <Name text={finding.kiloUserId} />
                {finding.organizationId !== null && (
                  <span className="muted"> in {finding.organizationId}</span>
                )}
              </th>
              <td>
                <span className="chip warning">{finding.kind}</span>
              </td>
              <td className="number">{formatExact(finding.reportedMicrodollars)}</td>
              <td className="number">{formatExact(finding.trueMicrodollars)}</td>
              <td className="number">
                <data value={finding.driftMicrodollars}>
                  {formatExact(finding.driftMicrodollars)}
                </data>
              </td>
              <td className="cause">{finding.likelyCause}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollRegion>
  );
}
