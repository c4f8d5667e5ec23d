// What every part of the page uses: elements, numbers as text, and which trial is chosen.
const data = JSON.parse(document.getElementById('data').textContent);
const root = document.documentElement;
window.addEventListener('error', e => { root.dataset.error = e.message; });

// ---- elements: text goes in as text, never as markup ----

function fill(e, attrs, children) {
    for (const [k, v] of Object.entries(attrs || {})) {
        if (v === null || v === undefined || v === false) continue;
        if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
        else e.setAttribute(k, v === true ? '' : v);
    }
    for (const c of children.flat(Infinity)) if (c !== null && c !== undefined && c !== false) e.append(c);
    return e;
}
const NS = document.getElementById('ns').namespaceURI;
const el = (tag, attrs, ...children) => fill(document.createElement(tag), attrs, children);
const svg = (tag, attrs, ...children) => fill(document.createElementNS(NS, tag), attrs, children);

// ---- numbers ----

const known = v => typeof v === 'number' && isFinite(v);
const group = v => String(v).replace(/^-?\d+/, whole => whole.replace(/\B(?=(\d{3})+$)/g, ','));
function scaled(v, unit) {
    const prefix = ['', 'k', 'M', 'G', 'T', 'P', 'E'];
    let x = Math.abs(v), i = 0;
    while (i < 6 && x >= 999.5) { x /= 1000; i++; }
    const whole = !i && x === Math.floor(x), digits = whole || x >= 99.95 ? 0 : x >= 9.995 ? 1 : 2;
    const tail = prefix[i] + unit;
    return (v < 0 ? '−' : '') + x.toFixed(digits) + (tail ? '\u202f' + tail : '');
}
function number(v) {
    const x = Math.abs(v), sign = v < 0 ? '−' : '';
    if (x === Math.floor(x) && x < 1e9) return sign + group(x);
    if (x >= 1e5 || x < 1e-4) return (sign + x.toExponential(3)).replace('e+', 'e').replace('e-', 'e−');
    return sign + x.toFixed(x >= 1000 ? 0 : x >= 100 ? 1 : x >= 10 ? 2 : x >= 1 ? 3 : x >= 0.1 ? 4 : x >= 0.01 ? 5 : x >= 0.001 ? 6 : 7);
}
function duration(s) {
    if (!known(s)) return '–';
    const two = v => String(v).padStart(2, '0'), t = Math.round(s);
    if (s && s < 0.0995) return (s * 1000).toFixed(s < 0.00995 ? 1 : 0) + '\u202fms';
    if (s < 59.5) return s.toFixed(s && s < 9.95 ? 1 : 0) + '\u202fs';
    if (s < 3599.5) return Math.floor(t / 60) + ':' + two(t % 60) + '\u202fmin';
    if (s < 86400) return Math.floor(t / 3600) + ':' + two(Math.floor(t / 60) % 60) + '\u202fh';
    return Math.floor(s / 86400) + '\u202fd ' + Math.floor(s % 86400 / 3600) + '\u202fh';
}
const metricInfo = Object.fromEntries(data.metrics.map(m => [m.name, m]));
for (const o of data.job.objectives) metricInfo[o.metric] = {...metricInfo[o.metric], name: o.metric, unit: o.unit, goal: o.goal};
const unitOf = name => (metricInfo[name] || {}).unit || '';
// Three digits, for where the size of it is what counts.
const brief = v => !known(v) ? '–' : Math.abs(v) >= 1e4 ? scaled(v, '') : v && Math.abs(v) < 1e-4 ? number(v)
    : String(parseFloat(v.toPrecision(3))).replace('-', '−');
// A value with its unit set smaller, where text holds one.
function withUnit(text) {
    const [value, ...unit] = text.split('\u202f');
    return [value, unit.length ? el('small', null, '\u202f' + unit.join(' ')) : null];
}
// A value as people write it in the metric's unit; bare: without a unit that a column's head already says.
function metricText(name, v, bare, short) {
    if (!known(v)) return '–';
    const m = metricInfo[name] || {}, unit = m.unit || '';
    if (unit === 'B') return scaled(v, 'B');
    if (unit === 'J') return scaled(v, 'J');
    if (m.source === 'paper') return scaled(v, unit && !bare ? unit : '');
    const text = unit === 'tokens/s' ? scaled(v, '') : short ? brief(v) : number(v);
    return text + (unit && !bare ? '\u202f' + unit : '');
}
function plural(n, one, many) { return group(n) + ' ' + (n === 1 ? one : many || one + 's'); }

// ---- trials: those of the front first, then the others that are shown ----

const objectives = data.job.objectives;
const byTrial = new Map();
const front = data.front.map(row => {
    const detail = data.details[row.trial], d = detail || {};
    return {trial: row.trial, front: true, metrics: row.metrics, intervals: row.intervals || {}, sure: row.probability, arch: row.arch_id, text: d.text || '', detail,
            proposal: d.proposal, features: d.features, busy: d.busy_s, joules: d.joules};
});
const others = (data.others.trial || []).map((trial, i) => {
    const o = data.others;
    return {trial, front: false, metrics: Object.fromEntries(objectives.map((q, k) => [q.metric, o.objectives[i][k]])), intervals: {}, text: o.text[i],
            proposal: o.proposal[i], features: o.features[i], busy: o.busy_s[i], joules: o.joules[i]};
});
for (const p of front.concat(others)) byTrial.set(p.trial, p);

// ---- which one is chosen ----

let chosen = null;
const listeners = [];
function choose(trial) {
    chosen = trial === chosen ? null : trial;
    for (const f of listeners) f(chosen);
}

// ---- light and dark ----

function themeButton() {
    const system = matchMedia('(prefers-color-scheme: dark)'), words = ['auto', 'light', 'dark'];
    let want = 'auto';
    try { want = localStorage.getItem('taut-theme') || want; } catch (e) { /* a file's page may have no storage */ }
    const button = el('button', {type: 'button', class: 'theme', title: 'Light, dark, or as the system is'});
    const show = () => {
        root.dataset.theme = want === 'auto' ? (system.matches ? 'dark' : 'light') : want;
        button.textContent = {auto: '◐', light: '○', dark: '●'}[want] + ' ' + want;
    };
    button.addEventListener('click', () => {
        want = words[(words.indexOf(want) + 1) % 3];
        try { localStorage.setItem('taut-theme', want); } catch (e) { /* as above */ }
        show();
    });
    system.addEventListener('change', show);
    window.addEventListener('beforeprint', () => { root.dataset.theme = 'light'; });
    window.addEventListener('afterprint', show);
    show();
    return button;
}

// ---- sections and figures ----

const main = document.getElementById('main'), nav = document.getElementById('nav');
function section(id, title, lead) {
    const s = el('section', {id}, el('h2', null, title), lead && el('p', {class: 'lead'}, lead));
    nav.append(el('a', {href: '#' + id}, title));
    main.append(s);
    return s;
}
// A figure that is drawn again whenever its width changes. draw(width, hook) gives an element; what it gives to hook is called with the chosen trial.
function figure(title, draw, caption) {
    const box = el('div', {class: 'plot'});
    const f = el('figure', null, title && el('figcaption', null, title), box, caption && el('p', {class: 'caption'}, caption));
    let had = 0, hooks = [];
    const again = () => {
        const width = Math.floor(box.clientWidth);
        if (!width || width === had) return;
        had = width;
        hooks = [];
        box.replaceChildren(draw(width, h => hooks.push(h)));
        for (const h of hooks) h(chosen);
    };
    f.start = () => {
        listeners.push(trial => { for (const h of hooks) h(trial); });
        again();
        new ResizeObserver(() => requestAnimationFrame(again)).observe(box);
    };
    return f;
}
function place(parent, ...figures) {
    parent.append(...figures);
    figures.forEach(f => f.start && f.start());
}
