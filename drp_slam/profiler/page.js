// SPDX-License-Identifier: Apache-2.0
// Marks what is wider than its box, so that a reader on a phone knows to scroll.
const boxes = document.querySelectorAll('.scroll, .drawing');
const mark = () => boxes.forEach(b => b.classList.toggle('wider', b.scrollWidth > b.clientWidth + 2));
addEventListener('resize', mark);
mark();
// Sorts a table.sortable by the column whose heading is clicked; numbers as numbers, empty cells last.
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells], body = table.tBodies[0];
  const value = (row, k) => {
    const text = row.cells[k].dataset.value ?? row.cells[k].textContent.replace(/[\s\u202f,]/g, '');
    const n = parseFloat(text);
    return Number.isNaN(n) ? text.toLowerCase() : n;
  };
  heads.forEach((head, k) => head.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') === 'descending';
    heads.forEach(h => h.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const rows = [...body.rows].map(row => [value(row, k), row]);
    rows.sort(([a], [b]) => {
      if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1;
      return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
    });
    body.append(...rows.map(([, row]) => row));
  }));
}
