// What shortcuts (low rungs, proxies) said, against what training to the top rung found.

const AUDIT_TEXT = 'Trials of the audit are trained to the top rung whatever they bring on the way. Rho and tau_b say how far a shortcut puts them in the order of their results ' +
    '(1: the same order, 0: no better than guessing); regret is what is lost by taking the one that it puts first. Intervals are 95\u202f% bootstrap intervals.';

function auditValue(v, digits) {
    const text = x => digits ? x.toFixed(digits) : number(x);
    if (!v || !known(v.value)) return '–';
    return text(v.value) + (known(v.low) ? ' [' + text(v.low) + ', ' + text(v.high) + ']' : '');
}
function filterText() {
    const f = job.filter, t = job.trials;
    if (!f || !known(f.combined)) return '';
    const now = f.on ? 'Candidates are scored first since proposal ' + group(f.since) + ', and one of each ' + f.group + ' is trained: '
        : (known(f.since) ? 'Candidates are not scored first any more since proposal ' + group(f.since) : 'Candidates were never scored first') + ': ';
    return now + 'within the better half of ' + group(f.results) + ' results a combination of proxies has a rank correlation of ' + f.combined.toFixed(2) + ' (each result predicted without itself)' +
        (f.best ? ', ' + f.best + ' alone ' + f.single.toFixed(2) : '') + '. ' + (t.passed ? plural(t.passed, 'candidate') + ' passed over.' : '');
}
function showAudit() {
    const a = job.audit;
    if (!a) return;
    const s = section('audit', 'Shortcuts');
    if (!a.share) {
        s.append(el('p', {class: 'lead'}, 'There was no audit (“audit” is 0): the job’s shortcuts are unchecked.'));
        return;
    }
    const cell = text => el('td', {class: 'text'}, text), nested = n => n && n.pairs ? group(n.violations) + ' of ' + group(n.pairs) : '–';
    const verdict = c => !('relied' in c) ? 'reference' : !c.relied ? 'not relied on' : c.judged ? 'relied on' : 'not judged yet';
    const drawn = known(a.drawn) ? group(a.drawn) + (known(a.wanted) ? ' of ' + group(a.wanted) : '') + ' architectures drawn, ' : '';
    const row = c => el('tr', null, cell(el('code', null, c.name)), cell(verdict(c)), cell(auditValue(c.rho, 2)), cell(auditValue(c.tau_b, 2)), cell(auditValue(c.best_tenth.rho, 2)),
                        cell(auditValue(c.best_tenth.tau_b, 2)), cell(auditValue(c.regret)), cell(nested(c.nesting)));
    const heads = ['shortcut', 'verdict', 'rho', 'tau_b', 'rho, best tenth', 'tau_b, best tenth', 'regret', 'nesting violated'];
    s.append(el('p', {class: 'lead'}, drawn + group(a.results) + ' results of ' + a.metric + ', ' + group(a.best_tenth) + ' of them of the predicted best tenth. ' + AUDIT_TEXT),
             table('plain', heads.map(t => el('th', {class: 'text'}, t)), el('tbody', null, a.shortcuts.concat(a.references).map(row))));
    if (a.nesting && a.nesting.pairs)
        s.append(el('p', {class: 'lead'}, 'By the results themselves a part of a network beats the whole in ' + nested(a.nesting) + ' pairs.'));
    if (filterText()) s.append(el('p', {class: 'lead'}, filterText()));
    if (a.rungs_relied === false)
        s.append(el('p', {class: 'lead'}, 'A low rung orders no better than counting parameters does: every new trial goes to the top rung.'));
}
