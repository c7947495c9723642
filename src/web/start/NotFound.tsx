import { Link, useLocation } from 'react-router';
import { useTitle } from '../title.js';

/** A path that is no view. */
export function NotFound() {
  const { pathname } = useLocation();
  useTitle('Not found');
  return (
    <div className="sign-in">
      <h1>There is no such page</h1>
      <p className="lead">
        Nothing is at <code>{pathname}</code>.
      </p>
      <p>
        <Link to="/">To the start</Link>, or <Link to="/start">first steps</Link>.
      </p>
    </div>
  );
}
