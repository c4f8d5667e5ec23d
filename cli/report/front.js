// The front: a chart for each pair of objectives, and the table.

function table(cls, heads, rows) {
    return el('div', {class: 'scroll'}, el('table', {class: 'rows ' + cls}, el('thead', null, el('tr', null, heads)), rows));
}
// Is any trial's place on the front in doubt?
const doubt = front.some(p => p.sure < 0.995);
function frontRow(p, columns) {
    const pick = () => choose(p.trial);
    const cell = name => {
        const iv = p.intervals[name];
        return el('td', null, metricText(name, p.metrics[name], true),
                  iv && el('small', {class: 'dim'}, metricText(name, iv[0], true) + ' – ' + metricText(name, iv[1], true)));
    };
    return el('tr', {'data-trial': p.trial, tabindex: 0, onclick: pick, onkeydown: e => { if (e.key === 'Enter') pick(); }},
              el('td', null, p.trial), columns.map(cell), doubt && el('td', null, Math.round(100 * p.sure) + '\u202f%'), el('td', {class: 'text'}, el('code', null, p.text || p.arch.slice(0, 12))));
}
function frontTable(parent) {
    const names = objectives.map(o => o.metric), params = front.some(p => known(p.metrics.params)) && !names.includes('params');
    const columns = params ? names.concat('params') : names, sort = {by: names[0], up: true}, body = el('tbody');
    let limit = front.length <= 15 ? 15 : 12;
    const mark = trial => { for (const r of body.children) r.classList.toggle('chosen', Number(r.dataset.trial) === trial); };
    const draw = () => {
        const value = p => { const v = sort.by === 'trial' ? p.trial : sort.by === 'sure' ? p.sure : p.metrics[sort.by]; return known(v) ? v : Infinity; };
        const sorted = front.slice().sort((a, b) => (sort.up ? 1 : -1) * (value(a) - value(b)));
        body.replaceChildren(...sorted.slice(0, limit).map(p => frontRow(p, columns)));
        mark(chosen);
    };
    const head = name => {
        const by = () => {
            sort.up = sort.by !== name || !sort.up;
            sort.by = name;
            draw();
        };
        const unit = unitOf(name);
        return el('th', null, el('button', {type: 'button', title: 'sort', onclick: by}, name),
                  unit && unit !== 'B' ? el('small', {class: 'dim'}, ' ' + unit) : null);
    };
    listeners.push(mark);
    parent.append(table('', [head('trial'), columns.map(head), doubt && head('sure'), el('th', {class: 'text'}, layered ? 'architecture' : 'knobs')], body));
    if (front.length > limit) {
        const more = el('button', {type: 'button', class: 'more'}, 'Show all ' + group(front.length) + ' rows');
        more.addEventListener('click', () => {
            limit = Infinity;
            draw();
            more.remove();
        });
        parent.append(more);
    }
    draw();
}

const HOW = 'Point at a dot to see what it is, click it to follow it through the page.';
function showFront() {
    const n = objectives.length, axes = objectives.map(metricAxis), grid = el('div', {class: 'grid ' + (n > 2 ? 'three' : 'one')});
    const s = section('front', 'The front', n === 1
        ? 'The best result so far among all of them, in the order of their proposal. ' + HOW
        : 'Trials that no other one beats in every objective (blue) among the others (grey). Whiskers are 95\u202f% intervals; the line joins those ' +
          'that nothing beats in these two alone. ' + HOW);
    const add = (a, b) => place(grid, figure(null, (width, hook) => scatter(a, b, width, hook)));
    s.append(grid);
    if (n === 1) add(orderAxis, axes[0]);
    for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) add(axes[j], axes[i]);
    frontTable(s);
    if (doubt) s.append(el('p', {class: 'small dim'}, 'sure: how often a trial is on the front when all measurements are drawn again within their intervals.'));
    if (data.legend && front.length) s.append(el('p', {class: 'small dim'}, data.legend));
}
